"""Defences: what stands around a model or trains one, and how an attacker who knows it takes its gradients."""
