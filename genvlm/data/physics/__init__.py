"""Simulated clips of balls, boxes, walls, screens and containers, lawful and broken."""
