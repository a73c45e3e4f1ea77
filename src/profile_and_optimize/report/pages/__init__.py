"""What every page of report.pdf shows, from atlas-shaped rows. Pure; `report/pdf` only draws it."""
