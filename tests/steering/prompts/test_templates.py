"""Chat templates: arguments, the day, open thoughts, conversations; and where prompt and answer meet."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from splitkit.steering.generation import answers
from splitkit.steering.interventions import load_intervention
from splitkit.steering.pairs import Message, Pair
from splitkit.steering.prompts.templates import arguments
from splitkit.steering.sweeps import sweep
from splitkit.steering.tokenization import encode_pairs, prompt_ids, prompts
from splitkit.steering.training import train
from tests.conftest import TEMPLATE, tiny_model, tiny_tokenizer

DATED = "{{ strftime_now('%d %B %Y') }}. " + TEMPLATE
OPTIONAL = "{% if not day is defined %}{% set day = strftime_now('%Y') %}{% endif %}{{ day }}" + TEMPLATE
THINKING = TEMPLATE + "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"
ALWAYS = TEMPLATE + "<think>\n"
ROLES = (
    "{% for m in messages %}{% if m.role == 'system' and strict %}{{ raise_exception('no system here') }}"
    "{% elif m.role != 'tool' %}<user>{{ m.role }}:{{ m.content | trim }}<eos>{% endif %}{% endfor %}<model>"
)
SYSTEM = [{"role": "system", "content": "Be calm."}, {"role": "user", "content": "Who?"}]
PAIR = Pair("Who?", "Me.", "You.")


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("llama")


@pytest.mark.parametrize("template", [DATED, OPTIONAL])
def test_a_template_with_the_day_is_told_and_can_be_kept_to_one(template: str, model) -> None:
    dated = tiny_tokenizer(template)
    with pytest.warns(UserWarning, match=r"writes the day .*chat_template_kwargs=\{\"strftime_now\": \"20"):
        encode_pairs(model, dated, [PAIR])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (kept,) = prompts(dated, ["Who?"], {"strftime_now": "2024-07-26"})
    assert kept.text.startswith("26 July 2024" if template == DATED else "2024")
    if template == OPTIONAL:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert prompts(dated, ["Who?"], {"day": "Monday"})[0].text.startswith("Monday")
    with pytest.raises(ValueError, match="is a day as .*, not 'soon'"):
        prompts(dated, ["Who?"], {"strftime_now": "soon"})


def test_arguments_that_reach_nothing_are_refused() -> None:
    thinking = tiny_tokenizer(THINKING)
    with pytest.raises(ValueError, match="does not read enable_thinkin; it may read enable_thinking"):
        prompts(thinking, ["Who?"], {"enable_thinkin": False})
    with pytest.raises(ValueError, match="add_generation_prompt, which no caller sets"):
        prompts(thinking, ["Who?"], {"add_generation_prompt": False})
    with pytest.raises(TypeError, match="is a dict of the template's arguments, not 'no'"):
        prompts(thinking, ["Who?"], "no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        prompts(tiny_tokenizer(None), ["Who?"], {"enable_thinking": False})


def test_an_answer_inside_a_thought_is_refused_with_what_to_pass(model, monkeypatch) -> None:
    thinking, always = tiny_tokenizer(THINKING), tiny_tokenizer(ALWAYS)
    with pytest.raises(ValueError, match=r"row 0: .* \(<think>\) .*kwargs=\{'enable_thinking': False\} asks"):
        encode_pairs(model, thinking, [PAIR])
    encode_pairs(model, thinking, [PAIR], {"enable_thinking": False})
    with pytest.raises(ValueError, match=r"begin both answers with '</think>'"):
        encode_pairs(model, always, [PAIR])
    encode_pairs(model, always, [Pair("Who?", "</think>Me.", "</think>You.")])
    # the user's own words open nothing
    encode_pairs(model, tiny_tokenizer(), [Pair("What is <think>", "Me.", "You.")])
    with pytest.warns(UserWarning, match="answers begin inside it; .*'enable_thinking': False"):
        answers(model, thinking, ["Who?"], max_new_tokens=1)


def test_an_intervention_keeps_its_template_s_arguments(model, tmp_path: Path) -> None:
    thinking, off = tiny_tokenizer(THINKING), {"enable_thinking": False}
    plain = tiny_tokenizer()  # the same prompt, without a switch
    expected = train(model, plain, [PAIR], "vector", "sft", epochs=1)
    trained = train(model, thinking, [PAIR], "vector", "sft", epochs=1, chat_template_kwargs=off)
    assert "chat_template_kwargs" not in expected.details
    iv = load_intervention(trained.save(tmp_path / "iv"), model)
    assert iv.details["chat_template_kwargs"] == off
    assert torch.equal(iv.parameters["vector"], expected.parameters["vector"])
    assert arguments(None, iv + 0.5 * iv) == off and arguments({}, iv) == {}
    with pytest.raises(ValueError, match="trained with different template arguments"):
        arguments(None, iv + expected)
    assert sweep(model, thinking, iv, [PAIR], [1.0]).equals(sweep(model, plain, expected, [PAIR], [1.0]))


def test_conversations_are_asked_as_they_are(model) -> None:
    roles = tiny_tokenizer(ROLES)
    pair = Pair(SYSTEM, "Me.", "You.")
    assert pair.question == (Message("system", "Be calm."), Message("user", "Who?"))
    assert hash(pair) == hash(Pair(tuple(SYSTEM), "Me.", "You."))
    assert roles.decode(prompt_ids(roles, SYSTEM)) == "<user>system:Be calm.<eos><user>user:Who?<eos><model>"
    assert prompt_ids(roles, "Who?") == prompt_ids(roles, SYSTEM[1:]), "a text is a message of the user's"
    iv = train(model, roles, [pair], "vector", "sft", epochs=1)
    assert len(sweep(model, roles, iv, [pair], [0.0, 1.0])) == 2
    asked = answers(model, roles, [SYSTEM, "Who?"], intervention=iv, m=1.0, max_new_tokens=2)
    assert asked[0] == answers(model, roles, [pair.question], intervention=iv, m=1.0, max_new_tokens=2)[0]


def test_conversations_that_cannot_be_asked_say_why() -> None:
    roles = tiny_tokenizer(ROLES)
    with pytest.raises(ValueError, match="row 1: .*base model has no chat template"):
        prompts(tiny_tokenizer(None), ["Who?", SYSTEM])
    with pytest.raises(ValueError, match="refuses the question: no system here"):
        prompts(roles, [SYSTEM], {"strict": True})
    with pytest.raises(ValueError, match="leaves out message 0, the tool's"):
        prompts(roles, [[{"role": "tool", "content": "42"}, SYSTEM[1]]])
    with pytest.raises(TypeError, match="question 0 is .*: it is one message, not a conversation"):
        answers(tiny_model("llama"), roles, SYSTEM)


def base_tokenizer(scheme: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a base model after one of the common schemes, with a few whole words."""
    words = ["Q", "A", ":", "me", "you", "a", "is", "it"]
    special = {"<pad>": 0, "<unk>": 1, "<eos>": 2}
    if scheme == "bytes":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokens, merges = [*letters[1:], "me", "Ġme", "Ġa"], [("m", "e"), ("Ġ", "me"), ("Ġ", "a")]
        core = Tokenizer(models.BPE(vocab=special | {t: i + 3 for i, t in enumerate(tokens)}, merges=merges))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    elif scheme == "pieces":
        tokens = ["▁", "\n", *words, *(f"▁{word}" for word in words), "y", "o", "u", "m", "e", "s", "i", "t"]
        scores = [
            *((name, 0.0) for name in special),
            *((t, -len(tokens) / len(t)) for t in dict.fromkeys(tokens)),
        ]
        core = Tokenizer(models.Unigram(scores, unk_id=1))
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        core.decoder = decoders.Metaspace(prepend_scheme="always")
    else:
        core = Tokenizer(
            models.WordPiece(special | {w: i + 3 for i, w in enumerate(words)}, unk_token="<unk>")
        )
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token="<unk>")
    made.add_tokens([f"<unused{number}>" for number in range(261 - len(made))])  # as many as the model has
    return made


@pytest.mark.parametrize("scheme", ["bytes", "pieces", "words"])
def test_the_space_belongs_to_the_answer_in_every_scheme(scheme: str, model) -> None:
    base = base_tokenizer(scheme)
    good, spaced = Pair("is it\nA:", " me", " you"), Pair("is it\nA: ", "me", "you")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode_pairs(model, base, [good])
        answers(model, base, ["is it\nA:"], max_new_tokens=1)
    if scheme == "words":  # no white space is read at all
        assert encode_pairs(model, base, [good]) == encode_pairs(model, base, [spaced])
        return
    with pytest.warns(UserWarning, match=r"row 0: .*end the question without white space"):
        encode_pairs(model, base, [spaced])
    with pytest.warns(UserWarning, match="question 0 ends with white space"):
        answers(model, base, ["is it\nA: "], max_new_tokens=1)


def test_a_template_s_answer_begins_without_white_space(model, recwarn) -> None:
    pieces = base_tokenizer("pieces")
    pieces.chat_template = "{{ messages[0].content }}\nA:"
    encode_pairs(model, pieces, [Pair("is it", "me", "you")])
    assert not recwarn.list
    with pytest.warns(UserWarning, match="begin the answer without white space"):
        encode_pairs(model, pieces, [Pair("is it", "\nme", "you")])
