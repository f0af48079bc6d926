"""Result types, as frozen pytrees whose shapes are documented once."""
