"""Tables, figures and the report, from small files alone. No torch."""
