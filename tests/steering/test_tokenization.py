"""Encoding: which tokens there are, and which of them are the answer's."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from splitkit.steering.generation import answers
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import sweep
from splitkit.steering.tokenization import answer_ids, batches, encode_pairs, prompt_ids
from splitkit.steering.training import train
from tests.conftest import TEMPLATE, tiny_model, tiny_tokenizer


def test_prompt_goes_through_the_chat_template(tokenizer) -> None:
    text = tokenizer.decode(prompt_ids(tokenizer, "Hi there"))
    assert text == "<bos><user>Hi there<eos><model>"


def test_without_a_template_the_question_is_a_plain_prefix() -> None:
    plain = tiny_tokenizer(template=None)
    assert prompt_ids(plain, "Hi") == plain("Hi", add_special_tokens=False)["input_ids"]


def test_answer_ends_with_the_end_of_answer_token(tokenizer) -> None:
    assert tokenizer.decode(answer_ids(tokenizer, "Yes.")) == "Yes.<eos>"
    turned = tiny_tokenizer(TEMPLATE.replace("<eos>", "<model>"))
    assert turned.decode(answer_ids(turned, "Yes.")) == "Yes.<eos>", "whatever ends a turn of the template"
    open_ended = tiny_tokenizer()
    open_ended.eos_token = None
    with pytest.raises(ValueError, match="eos_token"):
        answer_ids(open_ended, "Yes.")


def test_masks_mark_the_answer_on_both_padding_sides(model, sided_tokenizer, pairs) -> None:
    positive, _ = encode_pairs(model, sided_tokenizer, pairs)
    for batch in batches(sided_tokenizer, positive, token_budget=150):
        assert batch.input_ids.numel() <= 150
        for row, index in enumerate(batch.index.tolist()):
            answer = batch.input_ids[row][batch.answer_mask[row]]
            assert sided_tokenizer.decode(answer) == pairs[index].positive + "<eos>"
            whole = batch.input_ids[row][batch.attention_mask[row].bool()].tolist()
            assert tuple(whole) == positive[index].ids
            positions = batch.position_ids[row][batch.attention_mask[row].bool()]
            assert positions.tolist() == list(range(len(whole)))


def test_every_sequence_is_in_one_batch(model, tokenizer, pairs) -> None:
    positive, _ = encode_pairs(model, tokenizer, pairs)
    for budget in (1, 100, 10_000):
        index = [i for batch in batches(tokenizer, positive, budget) for i in batch.index.tolist()]
        assert sorted(index) == list(range(len(pairs)))


def test_a_cut_answer_names_its_row(model, tokenizer, pairs) -> None:
    with pytest.raises(ValueError, match=r"row 5: question and negative answer are \d+ tokens.*takes 96"):
        encode_pairs(model, tokenizer, [*pairs, Pair("Why?", "So.", "Because " * 20)])


def test_a_single_pair_says_what_to_pass(model, tokenizer, pairs) -> None:
    with pytest.raises(TypeError, match=r"\[pair\]"):
        encode_pairs(model, tokenizer, pairs[0])


def test_a_larger_vocabulary_than_the_embedding_names_both_sizes(model, pairs) -> None:
    foreign = tiny_tokenizer()
    foreign.add_tokens(["calm", "apples"])
    with pytest.raises(ValueError, match=r"vocabulary needs 263 ids, .* has 261 rows"):
        encode_pairs(model, foreign, pairs)


def test_ids_beyond_the_embedding_are_refused_in_a_vocabulary_with_holes(model, pairs) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: 100 + i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    foreign = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=letters[0])
    assert len(foreign) < 261
    with pytest.raises(ValueError, match=r"vocabulary needs 356 ids, .* has 261 rows"):
        encode_pairs(model, foreign, pairs)


def test_a_base_model_goes_through_everything(model, form, pairs) -> None:
    plain = tiny_tokenizer(template=None)
    iv = train(model, plain, pairs, form, "split", epochs=1, rank=2)
    table = sweep(model, plain, iv, pairs, m=[0.0, 1.0])
    assert np.isfinite(table["preference"]).all()
    assert len(answers(model, plain, ["Who?"], intervention=iv, m=1.0, max_new_tokens=3)) == 1
    with pytest.raises(ValueError, match="question '' has no token, and there is no chat template"):
        prompt_ids(plain, "")


def test_without_a_template_a_tokenizer_puts_its_own_bos_and_no_eos() -> None:
    plain = tiny_tokenizer(template=None)
    plain.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    assert plain.decode(prompt_ids(plain, "Hi")) == "<bos>Hi"


def test_a_tokenizer_with_other_special_tokens_is_refused(pairs) -> None:
    model = tiny_model("qwen2")
    model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = 7, [8, 9], 10
    model.generation_config.bos_token_id = model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = None
    with pytest.raises(
        ValueError, match=r"its bos_token_id is 1, .* says 7; its eos_token_id is 2, .* 8 or 9"
    ):
        encode_pairs(model, tiny_tokenizer(), pairs)
    model.generation_config.eos_token_id = [2, 8]
    with pytest.warns(UserWarning, match="its bos_token_id is 1, the model's config says 7; its pad"):
        encode_pairs(model, tiny_tokenizer(), pairs)


def test_special_tokens_that_agree_or_cannot_be_compared_are_silent(pairs, recwarn) -> None:
    model, other = tiny_model("qwen2"), tiny_tokenizer()
    model.config.eos_token_id = [9, 2]
    encode_pairs(model, other, pairs)
    other.bos_token, other.pad_token = None, other.eos_token
    encode_pairs(model, other, pairs)
    assert not [warning for warning in recwarn if warning.category is UserWarning]


def test_pad_alone_is_no_fault_and_eos_or_a_small_vocabulary_is_one(pairs, recwarn) -> None:
    model = tiny_model("qwen2")
    model.config.pad_token_id = model.generation_config.pad_token_id = 9
    encode_pairs(model, tiny_tokenizer(), pairs)
    assert not [warning for warning in recwarn if warning.category is UserWarning]
    model.config.eos_token_id = model.generation_config.eos_token_id = 9
    with pytest.warns(UserWarning, match="may belong to another model: its eos_token_id is 2"):
        encode_pairs(model, tiny_tokenizer(), pairs)
    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "Who?": 3, "I": 4, "You": 5}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    few = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>")
    with pytest.warns(UserWarning, match="vocabulary has 6 ids, the model's embedding matrix 261 rows"):
        encode_pairs(tiny_model("llama"), few, [Pair("Who?", " I", " You")])


def test_what_is_no_tokenizer_is_named(pairs) -> None:
    model = tiny_model("llama")
    for call in (lambda: encode_pairs(model, model, pairs), lambda: answers(model, None, ["Who?"])):
        with pytest.raises(TypeError, match="a tokenizer is wanted, .*, not a (Llama|None)"):
            call()


@pytest.mark.parametrize(
    ("question", "answer", "told"),
    [
        ("Q: Who?\nA:", "me", True),
        ("Q: Who?\nA:", " me", False),
        ("Q: Who?\n", "me", False),
        ("2 + 2 =", "4", False),
        ("\u8c01\uff1a", "\u6211", False),
        ("Who", "Яна", True),
    ],
)
def test_a_base_model_s_answer_that_runs_on_is_told(question, answer, told, recwarn) -> None:
    encode_pairs(
        tiny_model("llama"), tiny_tokenizer(template=None), [Pair(question, answer, answer + "!")] * 2
    )
    found = [str(w.message) for w in recwarn if "run on without white space" in str(w.message)]
    assert len(found) == told
    assert not told or found[0].startswith("row 0: ")
