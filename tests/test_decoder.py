import torch
from audit_lit.activations import read
from audit_lit.dialog import render, reveal_positions


def acts(target, texts):
    r=[render([{"role":"system","content":"Be a pirate."},{"role":"user","content":t}], target.tokenizer) for t in texts]
    return read(target, r, [reveal_positions(x) for x in r], (2,))

def test_cached_equals_uncached(target, make_decoder):
    d = make_decoder(); a = acts(target, ["Hi", "Hello there you"])
    q = ["What?", "Why is it so"]
    one = d.answer(a, q, max_new_tokens=12)
    assert one == d.answer(a, q, max_new_tokens=12, use_cache=False)
    for i in range(2):
        assert d.answer(a.rows([i]), [q[i]], max_new_tokens=12) == [one[i]]
