from gan.errors import nearest


def test_nearest_prefers_swapped_letters():
    assert nearest("adma", ["adamax", "adam", "sgd"]) == "; did you mean 'adam'?"
    assert nearest("num_step", ["num_steps", "seed"]) == "; did you mean 'num_steps'?"
    assert nearest("zzz", ["adam"]) == ""
