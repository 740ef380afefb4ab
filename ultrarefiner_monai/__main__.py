"""`python -m ultrarefiner_monai` is the command line `ultrarefiner`."""

from ultrarefiner_monai.cli import main

if __name__ == "__main__":
    main()
