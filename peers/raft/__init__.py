"""Consensus: who is primary, and which entries are committed. Pure: time, chance and the disk are arguments."""
