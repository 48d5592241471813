"""Ways to providers. Each sender sends one letter, and says what came of it."""
