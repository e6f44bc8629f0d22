"""Boosted trees of XGBoost, LightGBM and CatBoost: read from their files and fitted objects, and held against what the
library itself answers."""
