"""Pytrees of parameters: splitting, merging, checking and converting them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscape._util.pytree import (
    as_arrays,
    check_finite,
    check_same_shapes,
    check_same_structure,
    combine,
    in_float64,
    is_array,
    is_none,
    is_parameter,
    is_traced,
    kind_of,
    moving_leaves,
    norm,
    partition,
    split_arrays,
    zip_with_paths,
)

KEY = jax.random.key(0)


def make_params():
    return {
        "w": np.float32([1, 2]),
        "rate": 0.5,
        "mean": np.ones(2),
        "counts": np.arange(3),
        "depth": 2,
        "flag": True,
        "key": KEY,
        "activation": jnp.tanh,
        "name": "mlp",
        "empty": None,
        "phase": 1j,
    }


def present(tree):
    return {name for name, leaf in tree.items() if leaf is not None}


def test_parameters_are_floating_arrays_and_python_floats():
    tree = make_params() | {"half": jnp.zeros(2, jnp.bfloat16)}
    assert {k for k, x in tree.items() if is_parameter(x)} == {"w", "rate", "mean", "half"}


def test_arrays_are_what_jax_traces():
    tree = make_params()
    assert {k for k, x in tree.items() if is_array(x)} == {
        "w", "rate", "mean", "counts", "key", "phase"
    }  # fmt: skip


def test_a_tracer_is_recognized():
    seen = []
    jax.make_jaxpr(lambda x: seen.append((is_traced(x), is_traced(1.0, x))) or x)(1.0)
    assert seen == [(True, True)]
    assert not is_traced(np.ones(2), 1.0)


def test_partition_splits_moving_leaves_from_the_rest():
    params = make_params()
    moving, rest = partition(params)
    assert present(moving) == {"w", "rate", "mean"}
    assert present(rest) == set(params) - {"w", "rate", "mean", "empty"}
    assert set(moving) == set(rest) == set(params)


def test_partition_asks_for_the_tree_paths_of_floating_leaves():
    asked = []

    def leaves(path):
        asked.append(path)
        return "mean" not in path

    moving, rest = partition(make_params(), leaves)
    assert present(moving) == {"w", "rate"}
    assert "mean" in present(rest)
    assert sorted(asked) == ["['mean']", "['rate']", "['w']"]


def test_combine_undoes_partition():
    params = make_params()
    for halves in (partition(params), reversed(partition(params))):
        again = combine(*halves)
        assert again.keys() == params.keys()
        assert all(again[name] is params[name] for name in params)


def test_combine_takes_the_first_leaf_that_is_not_none():
    assert combine([1, None, None], [2, 3, None], [4, 5, None]) == [1, 3, None]


def test_partition_is_that_of_equinox():
    model = eqx.filter_jit(lambda: eqx.nn.MLP(3, 2, 4, 1, key=KEY))()
    for ours, theirs in zip(
        partition(model), eqx.partition(model, eqx.is_inexact_array), strict=True
    ):
        assert eqx.tree_equal(ours, theirs)
    assert eqx.tree_equal(combine(*partition(model)), model)


def test_moving_leaves_are_those_where_the_params_are_floating():
    params = make_params()
    other = {name: name for name in params}
    assert present(moving_leaves(params, other)) == {"w", "rate", "mean"}


def test_a_pytree_is_rebuilt_from_its_arrays_and_its_static_part():
    params = make_params()
    arrays, static = split_arrays(params)
    assert present(arrays) == {"w", "rate", "mean", "counts", "key", "phase"}
    again = static.with_arrays(arrays)
    assert all(again[name] is params[name] for name in params)
    other = static.with_arrays(arrays | {"rate": 7.0})
    assert other["rate"] == 7.0
    assert other["activation"] is jnp.tanh


def test_static_parts_of_equal_structure_are_equal_and_hashable():
    (_, first), (_, second) = split_arrays(make_params()), split_arrays(make_params())
    assert first == second
    assert hash(first) == hash(second)
    assert first != split_arrays(make_params() | {"name": "other"})[1]


def test_leaves_are_paired_with_their_tree_paths():
    tree, other = {"a": [1, None]}, {"a": [2, 3]}
    assert list(zip_with_paths(tree, other)) == [("['a'][0]", 1, 2), ("['a'][1]", None, 3)]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"w": 1.0}, r"p: expected the structure with a leaf \['b'\], got none there"),
        ({"w": 1.0, "c": 2.0}, r"p: expected the structure with a leaf \['b'\], got \['c'\] there"),
        ({"w": 1, "b": 2, "c": 3}, r"p: expected the structure, got an additional leaf \['c'\]"),
    ],
)
def test_the_error_of_another_structure_names_the_tree_path(other, message):
    first = {"w": 1.0, "b": None}
    check_same_structure("p", "the structure", first, {"w": None, "b": 3})
    with pytest.raises(ValueError, match=message):
        check_same_structure("p", "the structure", first, other)


def test_the_error_of_another_container_shows_both_structures():
    with pytest.raises(ValueError, match=r"PyTreeDef\(\[\*\]\), got PyTreeDef\(\(\*,\)\)"):
        check_same_structure("p", "the structure", [1.0], (1.0,))
    assert jax.tree.structure([None], is_leaf=is_none).num_leaves == 1


def test_only_floating_leaves_need_the_same_shape():
    first = {"w": np.ones((2, 3)), "n": np.arange(3)}
    check_same_shapes("p", first, {"w": np.zeros((2, 3)), "n": "any"})
    with pytest.raises(
        ValueError, match=r"p\['w'\]: expected the first's shape \(2, 3\), got \(\)"
    ):
        check_same_shapes("p", first, {"w": 1.0, "n": 0})
    with pytest.raises(TypeError, match=r"p\['w'\]: expected floating numbers, as ours, got int64"):
        check_same_shapes("p", first, {"w": np.ones((2, 3), int), "n": 0}, "ours")


def test_the_error_of_numbers_that_are_not_finite_names_the_tree_path():
    check_finite("p", make_params())
    with pytest.raises(ValueError, match=r"p\['w'\]\[1\]: expected finite numbers"):
        check_finite("p", {"w": [1.0, np.array([0, np.nan])]})
    jax.eval_shape(lambda x: check_finite("p", x), np.float32([np.nan]))


def test_the_kind_of_a_leaf_is_its_dtype_or_its_type():
    assert [kind_of(leaf) for leaf in (np.float32(1), np.arange(2), "a", 1)] == [
        "float32", "int64", "str", "int"
    ]  # fmt: skip


def test_python_numbers_become_arrays_in_the_dtype_of_the_data(x64):
    for dtype in (np.float32, np.float64):
        params = as_arrays({"w": 1, "b": 0.5}, {"x": np.ones(2, dtype), "n": np.arange(2)})
        assert [params[name].dtype for name in "wb"] == [dtype] * 2
        assert params["w"] == 1
    assert as_arrays({"w": 1.0}, None)["w"].dtype == np.float64


def test_arrays_keep_their_dtype():
    given = {"w": np.float16([1]), "b": jnp.float32(2)}
    params = as_arrays(given, np.ones(2))
    assert params["w"].dtype == np.float16
    assert params["b"] is given["b"]


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="params: expected at least one array or number, got"):
        as_arrays({"w": None}, None)
    for leaf, kind in ((np.arange(2), "dtype int64"), ("a", "str"), (True, "bool")):
        with pytest.raises(TypeError, match=rf"params\['w'\]: expected floating .* got {kind};"):
            as_arrays({"w": leaf}, None)
    with pytest.raises(ValueError, match=r"params\['w'\]: expected finite numbers"):
        as_arrays({"w": np.array([1.0, np.inf])}, None)


def test_floating_leaves_are_converted_to_float64():
    tree = in_float64({"w": np.float32([0.1]), "n": np.arange(2), "x": 0.5})
    assert tree["w"].dtype == tree["x"].dtype == np.float64
    assert tree["w"][0] == float(np.float32(0.1))
    assert tree["n"].dtype == np.int64


def test_the_norm_is_that_of_all_numbers():
    tree = {"w": np.float32([[1, -2], [3, 0]]), "b": np.float32(4)}
    assert norm(tree) == pytest.approx(np.sqrt(30), rel=1e-6)


@pytest.mark.parametrize(("scale", "size"), [(1e-25, 5e-25), (1e25, 5e25), (0, 0)])
def test_the_norm_neither_underflows_nor_overflows(scale, size):
    assert float(norm([np.float32([3 * scale, 4 * scale])])) == pytest.approx(size, rel=1e-6)
