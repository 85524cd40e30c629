"""Doors to the outside: file formats and other libraries. Each is imported only when it is used."""

from .safetensors import load, load_checkpoint, load_metadata, save, save_checkpoint

__all__ = ["load", "load_checkpoint", "load_metadata", "save", "save_checkpoint"]
