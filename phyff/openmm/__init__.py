"""The energy in OpenMM: converters from fitted parameters to stock forces; they hold no physics of their own."""
