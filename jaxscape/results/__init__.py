"""Result types: axes, landscapes and training paths."""
