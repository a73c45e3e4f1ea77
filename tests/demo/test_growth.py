"""Growing keeps what the model knows and adds work that changes nothing. Needs torch, not the shipped weights."""

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("safetensors", reason="needs safetensors")

from demo.folder import Shape, initial_tensor, parameter_count, write_model  # noqa: E402
from demo.grow import Settings, grow_folder, is_done  # noqa: E402
from demo.growth import grow, grown_shape, source_positions  # noqa: E402

SMALL = Shape(
    vocab_size=10,
    hidden_size=8,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=4,
)


def small_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: initial_tensor(name, size, generator) for name, size in SMALL.tensors().items()}


def test_two_layers_among_five_stand_first_and_last():
    assert source_positions(2, 5) == {0: 0, 4: 1}


def test_every_layer_of_the_source_keeps_its_place_in_the_order():
    assert list(source_positions(5, 32).values()) == [0, 1, 2, 3, 4]
    assert list(source_positions(5, 32)) == sorted(source_positions(5, 32))


def test_the_grown_shape_has_the_asked_parameters_and_not_a_step_more():
    shape = grown_shape(SMALL, layers=5, min_parameters=100_000)
    step = 3 * 64 * 8 * 5  # gate, up and down of 64 more rows of 8, in 5 layers
    assert 100_000 <= parameter_count(shape) < 100_000 + step


def test_growing_to_fewer_layers_is_refused():
    with pytest.raises(ValueError, match="fewer"):
        grown_shape(SMALL, layers=1, min_parameters=0)


def test_the_old_rows_are_kept_and_what_the_new_ones_write_is_tiny_and_not_zero():
    source, shape = small_tensors(), grown_shape(SMALL, layers=5, min_parameters=100_000)
    grown = grow(source, SMALL, shape, seed=0)
    down = grown["model.layers.4.mlp.down_proj.weight"]
    assert torch.equal(down[:, :16], source["model.layers.1.mlp.down_proj.weight"])
    assert 0 < down[:, 16:].abs().max() < 1e-4
    assert 0 < grown["model.layers.2.self_attn.o_proj.weight"].abs().max() < 1e-4
    assert grown["model.layers.2.mlp.gate_proj.weight"].std() > 0.01


def test_a_finished_growth_is_recognized_and_a_damaged_one_is_not(tmp_path):
    write_model(tmp_path / "source", SMALL, small_tensors(), eos_token_id=3)
    settings = Settings("0" * 64, layers=3, min_parameters=50_000, seed=0)
    assert not is_done(tmp_path / "grown", settings)
    grow_folder(tmp_path / "source", tmp_path / "grown", settings)
    assert is_done(tmp_path / "grown", settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown", "source"]
    with (tmp_path / "grown" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert not is_done(tmp_path / "grown", settings)


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    write_model(tmp_path / "source", SMALL, small_tensors(), eos_token_id=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(SystemExit, match="something else"):
        grow_folder(tmp_path / "source", tmp_path / "mine", Settings("0" * 64, 2, 0, 0))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
