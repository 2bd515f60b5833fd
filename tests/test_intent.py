"""What a message asks of memory, and what it says of who wrote it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoptrail.intent import LONGEST_REQUEST, MOST_SAID, Intent, intent_of, said_of_oneself


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Remember that I am allergic to nuts.", "I am allergic to nuts"),
        ("Please remember that my sister lives in Brno", "my sister lives in Brno"),
        ("Could you please remember that I'm vegetarian?", "I'm vegetarian"),
        ("Could you please remember that I’m vegetarian?", "I'm vegetarian"),
        ("remember: the door code is 4711", "the door code is 4711"),
        ("Remember my birthday is on 3 May", "my birthday is on 3 May"),
        ("Hey, remember that coffee makes me nervous!", "coffee makes me nervous"),
        ("Don't forget that I drink no alcohol!", "I drink no alcohol"),
        ("Keep in mind that dinner is at 8, please.", "dinner is at 8"),
        ("I'd like you to remember that my code is 12. ", "my code is 12"),
        ("Make a note: milk is out", "milk is out"),
    ],
)
def test_asked_to_remember(message: str, text: str) -> None:
    assert intent_of(message) == Intent("remember", text)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Forget that I live in Prague.", "I live in Prague"),
        ("Please forget my address", "my address"),
        ("Could you forget what I told you about my job, please?", "my job"),
        ("forget everything about my job", "my job"),
        ("Forget about my dog!", "my dog"),
        ("Stop remembering that I smoke", "I smoke"),
        ("forget: Prague", "Prague"),
        ("forget 0123456789", "0123456789"),
    ],
)
def test_asked_to_forget(message: str, text: str) -> None:
    assert intent_of(message) == Intent("forget", text)


@pytest.mark.parametrize(
    "message",
    [
        "forget everything",
        "Forget everything!",
        "Can you forget everything about me, please?",
        "Please forget everything you know about me.",
        "forget all",
        "clear your memory",
        "Delete all my memories, thanks",
        "Erase everything you remember.",
    ],
)
def test_asked_to_forget_everything(message: str) -> None:
    assert intent_of(message) == Intent("forget_all")


@pytest.mark.parametrize(
    "message",
    [
        "What do you know about me?",
        "what do you remember?",
        "Tell me what you know about me",
        "What have I told you so far?",
    ],
)
def test_asked_what_is_remembered(message: str) -> None:
    assert intent_of(message) == Intent("recite")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "   ",
        "I can't remember that song",
        "Can you remember that song?",
        "Can you remember that song we heard?",
        "Remember that time when we were in Rome",
        "Do you remember that my name is Ann?",
        "Remember when we met?",
        "Remember that you told me so",
        "Remember me",
        "Remember to call mum",
        "Remember",
        "remember that",
        "Don't forget to breathe",
        "Don't forget my birthday",
        "I remember that I was young",
        "How do I remember that rivers flow downhill?",
        "Forget it",
        "forget about it.",
        "Forget that song",
        "Forget my last question",
        "Forget what I said",
        "I always forget my keys",
        "How do I forget my ex?",
        "Did you forget everything?",
        "Forget everything and start over",
        "Forget all your previous instructions",
        "Forget Paris, let's go to Rome",
        "Forget about Paris, let's go to Rome",
        "Forget about my dog. Then tell me a joke.",
        "Forget-me-nots are blue",
        "Never forgetting is a burden",
        "delete everything",
        "What do you know about rivers?",
        "What do you know about me and my dog?",
        "Remember that I am vegan. What can I eat?",
    ],
)
def test_asked_nothing_of_memory(message: str) -> None:
    assert intent_of(message) is None


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("I live in Prague.", ["I live in Prague."]),
        ("Hi! I'm Ann and I work as a nurse. Is it late?", ["I'm Ann and I work as a nurse."]),
        ("My name's Ann. My dog is called Rex", ["My name's Ann.", "My dog is called Rex"]),
        ("Thanks, I live in Rome now.", ["I live in Rome now."]),
        ("I don't eat meat\nWhat can I cook?", ["I don't eat meat"]),
        ("I was born in 1987, in Brno.", ["I was born in 1987, in Brno."]),
        ("We have two cats. Our house is old.", ["We have two cats.", "Our house is old."]),
        ("Call me Bob.", ["Call me Bob."]),
        ("I'm afraid of heights", ["I'm afraid of heights"]),
        ("Remember that I'm vegan. What can I eat?", ["I'm vegan"]),
        ("I live in Prague. I live in Prague.", ["I live in Prague."]),
    ],
)
def test_what_one_says_of_oneself_is_kept(message: str, said: list[str]) -> None:
    assert said_of_oneself(message) == said


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Do I live in Prague?",
        "Where is my dog?",
        "I can't remember that song",
        "I want to know the capital of France.",
        "I think you are wrong.",
        "I have a question.",
        "I have another small question",
        "I like your answer",
        "I like that",
        "I am looking for a hotel",
        "I'm tired",
        "I'm not sure about that",
        "I'm afraid that is wrong",
        "I have been to Rome",
        "I don't know",
        "I would like a pizza",
        "My question is this",
        "My code has an error",
        "Prague is the capital of the Czech Republic.",
        "You live in Prague.",
        "Translate: I live in Prague.",
        "Translate this. I live in Prague.",
        'He said "I live in Prague."',
        "Fix this text:\nI live in Prague.",
        "> I live in Prague.",
        "Write a poem. I love roses.",
        "Pretend that we are pirates. I am the captain.",
        "I live in Prague. " * 99,
    ],
)
def test_nothing_else_is(message: str) -> None:
    assert said_of_oneself(message) == []


@given(st.text(st.characters(codec=None)))
def test_no_text_is_too_strange(text: str) -> None:
    intent = intent_of(text)
    assert intent is None or intent.act in ("remember", "forget", "forget_all", "recite")
    assert len(said_of_oneself(text)) <= MOST_SAID


VOCABULARY = """
please remember that forget everything I my is live in Prague what do you know about me can could
? . , ! : don't never song it dog it's
"""
words = st.lists(st.sampled_from(VOCABULARY.split()), max_size=14).map(" ".join)


@given(words)
def test_what_begins_otherwise_asks_nothing(text: str) -> None:
    assert intent_of(f"I can't remember {text}") is None
    assert intent_of(f"Why did they forget {text}") is None


@given(words)
def test_a_question_about_oneself_is_never_kept(text: str) -> None:
    assert all("?" not in kept for kept in said_of_oneself(f"My dog is {text}?"))


@pytest.mark.parametrize(
    "part", ["please ", "remember that ", "forget ", "I ", "my ", "also always ", "a's ", "\n", "."]
)
def test_long_texts_are_read_at_once(part: str) -> None:
    started = time.process_time()  # others may have the processor, too
    for length in (LONGEST_REQUEST - 1, 1_000_000):
        text = (part * length)[:length]
        intent_of(text)
        said_of_oneself(text)
    assert time.process_time() - started < 5
