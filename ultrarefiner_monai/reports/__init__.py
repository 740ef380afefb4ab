"""What a cross-validation says: one page, one table, and the comparison of two."""
