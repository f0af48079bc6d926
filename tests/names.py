"""Every public name of the library."""

import types

import jaxscape as jxs


def public_names():
    """Map each public name, as written after `jxs.`, to its object; packages are left out."""
    found = {}
    for name in jxs.__all__:
        value = getattr(jxs, name)
        if isinstance(value, types.ModuleType):
            found |= {f"{name}.{inner}": getattr(value, inner) for inner in value.__all__}
        else:
            found[name] = value
    return found
