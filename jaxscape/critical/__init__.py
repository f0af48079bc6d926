"""Critical points: found, classified, counted and proved."""
