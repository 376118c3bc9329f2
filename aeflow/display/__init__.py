"""How any table, any figure and any page of images looks. No torch."""
