"""How any table and any figure looks. No torch."""
