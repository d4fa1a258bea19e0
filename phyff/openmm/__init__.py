"""The energy in OpenMM: converters from fitted parameters to stock forces, without physics of their own."""
