"""WHAT IS VARIED: one file per search space, plain data that a search turns into its own terms."""
