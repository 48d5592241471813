"""What the seed data of any line of business use: dice, words, loaders, live traffic."""
