"""Accuracy: questions with known answers, asked of a running server; scores with n and interval."""
