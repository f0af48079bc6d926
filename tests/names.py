"""Every public name of the library."""

import types

import jaxscape as jxs


def public_names():
    """Map each public name, without `jxs.`, to its object; packages are left out."""
    names = {}
    for name in jxs.__all__:
        value = getattr(jxs, name)
        if isinstance(value, types.ModuleType):
            names |= {f"{name}.{inner}": getattr(value, inner) for inner in value.__all__}
        else:
            names[name] = value
    return names
