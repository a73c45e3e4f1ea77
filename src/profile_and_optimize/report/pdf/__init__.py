"""Draws report.pdf. Nothing is decided here: `report/pages` says what each page shows. matplotlib is imported by
`write` alone, when a PDF is drawn."""
