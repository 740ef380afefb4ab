"""What a finished cross-validation says: scores, tables."""
