"""The rooms of the house; docs/architecture.md says who may import whom."""
