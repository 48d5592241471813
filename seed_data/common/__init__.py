"""The parts that the seed data of every line use: dice, words, loaders, live traffic."""
