"""The laboratory."""
from fragile_utils.laboratory.export import export
