"""The loss on a grid of a plane: its strategies, plans and row blocks, files and derivatives."""
