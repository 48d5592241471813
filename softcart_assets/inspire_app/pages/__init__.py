"""The pages for people: server-rendered, for a phone first, without scripts."""
