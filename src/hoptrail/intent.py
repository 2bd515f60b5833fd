"""What a message asks of memory, and what it says of who wrote it; by rules, no model is asked.

The rules are anchored, and say no when in doubt: a message that is missed is answered like any
other, one that is taken wrongly is remembered, or worse, forgotten. They know English.

Only what a person says is ever kept. What a model said is not: a hallucination must not become
a memory, to be taken for a fact ever after.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LONGEST_REQUEST = 1000
"""Characters of a message that can be a request, or about oneself: longer ones are material."""
MOST_SAID = 5
"""Facts taken from one message."""

Act = Literal["remember", "forget", "forget_all", "recite"]

_HAIL = (
    r"(?:(?:please|kindly|just|hey|hi|hello|ok|okay|and|but|also|so|oh|well|now|actually|yes|no"
    r"|thanks|fyi|btw|by the way|hoptrail)\b[,!.:]?\s+)*"
)
_POLITELY = (
    r"(?:(?:can|could|would|will) you |i(?:'d| would) like you to |i want you to "
    r"|you (?:should|must|may|can) )"
)
_PLEASE = r"(?:please |kindly |just |always |also )*"
_ASKED = rf"{_HAIL}(?P<asked>{_POLITELY})?{_PLEASE}"


def _rule(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_REMEMBER = _rule(
    rf"{_ASKED}(?:remember|keep in mind|bear in mind|make a note|take a note|note|memori[sz]e"
    r"|(?:don't|do not|never) (?:ever )?forget)"
    r"(?:(?P<colon>\s*[:,–—]\s*(?:that )?)| that | (?=(?:i|i'm|i've|my|we|our)\b))(?P<text>\S.*)"
)
_FORGET_ALL = _rule(
    rf"{_ASKED}(?:forget (?:everything|all)(?: (?:of )?(?:your|my|the) (?:memories|facts))?"
    r"|(?:forget|clear|wipe|erase|delete) (?:all (?:of )?)?(?:your|my|the) (?:whole )?"
    r"(?:memory|memories)|(?:forget|erase|delete) (?:everything|all) (?:that )?you remember)"
    r"(?: (?:that )?(?:you(?: have|'ve)? (?:know|remember|remembered|stored|saved|learned)"
    r"|i(?: have|'ve)? (?:ever )?(?:told you|said)))?(?: (?:about|of) me)?"
)
_FORGET = _rule(
    rf"{_ASKED}(?:forget|stop remembering|(?:don't|do not) remember)"
    r"(?:\s*:\s*(?P<named>\S.*)"
    r"| (?P<id>[0-9a-f]{10})"
    r"| (?:the fact )?that (?P<that>\S.*)"
    r"| (?:(?:everything|all|anything|what|whatever) )?(?:(?:that )?(?:you(?: have|'ve)? "
    r"(?:know|remember|stored|saved)|i(?: have|'ve)? (?:ever )?(?:told you|said)) )?"
    r"about (?P<about>[^,;:.!?]+)"
    r"| (?P<mine>my [^,;:.!?]+))"
)
_RECITE = _rule(
    rf"{_ASKED}(?:(?:tell me|list|show me|recite) )?"
    r"(?:(?:what|everything|all)(?: else)? (?:(?:do|can) )?(?:that )?you "
    r"(?:(?:know|remember|recall|have (?:learned|stored)) (?:about|of) me|remember|recall)"
    r"|what (?:have i|i have|i've|did i) (?:told|tell) you(?: about (?:me|myself))?)(?: so far)?"
)
_TAIL = _rule(r"[\s,.!]*\b(?:please|thanks|thank you|right now|now|again)$")

_VERB = _rule(
    r"\b(?:is|are|was|were|am|has|have|had|do|does|did|can|can't|cannot|could|will|won't|would"
    r"|shall|should|must|may|might|don't|doesn't|didn't|isn't|aren't|wasn't"
    r"|[^\W\d_]+'(?:s|re|m|ve)|[^\W\d_]{2,}ed|[^\W\d_]+[^\Ws]s)\b"
)
_FIRST_PERSON = _rule(r"(?:i|i'm|i've|i'd|i'll|we|we're|we've)\b")
_REMINISCENCE = _rule(
    r"(?:(?:old|one|nice|great|funny) )*(?:song|time|day|night|moment|year|summer|movie|film|book"
    r"|guy|girl|man|woman|person|thing|place|party|trip|joke|story|show|game|word|name)"
    r"(?:s? (?:when|where|we|you|i|he|she|they|from|with|by|about|in|of|at)\b|$)"
)
_TALK = _rule(r"(?:i|we|you) (?:just |already )?(?:told|said|asked|mentioned|talked|spoke|wrote)\b")
_IDIOM = _rule(
    r"(?:it|this|that|them|him|her|me|us|you|what i (?:just )?(?:said|asked)"
    r"|(?:my|the|your) (?:\w+ )?(?:last|previous|earlier|first|second|question|message|request"
    r"|instructions?|answer|prompt)\b.*)"
)

_MATERIAL = _rule(
    r"```|[\"“”«»]|:\s*\n|^>|\b(?:translate|rewrite|rephrase|reword|proofread|correct|fix|edit"
    r"|summari[sz]e|paraphrase|shorten|pretend|imagine|suppose|role-?play|act as|story|poem|song"
    r"|lyrics|e-?mail|letter|essay|sentence|quote|example|dialogue|character|cover letter)\b"
)
"""A message that brings somebody's words along: its first person need not be who sent it."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*\n\s*")
_WORTHLESS = (
    r"(?!(?:it|this|that|these|those|your|you|to|been|so|no idea|an idea|another|what|how|why|if"
    r"|(?:a|an|any|one|two|some|no|more|the same)(?: \w+)? (?:question|problem|doubt|feeling|issue"
    r"|error|bug|request|idea|favou?r|suggestion|thought)s?|trouble|questions|doubts)\b)"
)
_OFTEN = r"(?:(?:also|always|usually|often|really|still|now|currently|mostly|only|never|have) )*"
_DOING = (
    r"(?:live|lived|work|worked|study|studied|speak|play|like|love|hate|prefer|enjoy|dislike|own"
    r"|drive|ride|eat|drink|collect|teach|grew up|was born|was raised|moved|come from|came from"
    r"|married|got married|retired|graduated|have|had|use|read|cook|sing|run|swim|wear|smoke"
    r"|believe in|belong to|avoid|can't stand|adore|manage|volunteer|vote|support)"
)
_ABOUT_ONESELF = _rule(
    rf"{_HAIL}(?:"
    r"my (?!(?:last |first |next |other )?(?:question|problem|point|guess|code|answer|bad|mistake"
    r"|message|request|apologies|understanding|issue|error|prompt)\b)[^\W\d_][\w' -]{0,60}?"
    r"(?:'s| is| are| was| were| has| have| lives?| works?| plays?| stud(?:y|ies)| likes?| loves?"
    r"| hates?| moved| speaks?| died| called) \S.*"
    rf"|i(?:'ve)? {_OFTEN}{_DOING} {_WORTHLESS}\S.*"
    r"|i (?:don't|do not|can't|cannot|never) (?:really |usually |often )?(?:like|love|eat|drink"
    rf"|have|own|drive|speak|smoke|enjoy|use|play|swim|work|live|read|celebrate) {_WORTHLESS}\S.*"
    r"|(?:i am|i'm) (?!(?:so|very|really|a bit|a little|just|still|only|about|not sure"
    r"|afraid (?!of)|sorry|sure|certain|unsure|confused|curious|glad|happy|fine|ok|okay|good|well"
    r"|great|back|here|there|done|ready|lost|stuck|wrong|right|aware|impressed|surprised|bored|tired|hungry"
    r"|thirsty|in a hurry|able|unable|interested in (?:knowing|learning)|your?|going|gonna)\b"
    r"|(?!living|working|studying|learning|training)\w+ing\b)\S.*"
    rf"|we {_OFTEN}(?:have|live|own|moved|married|got married) {_WORTHLESS}\S.*"
    r"|our (?!(?:conversation|chat|last|previous|question|problem)\b)[^\W\d_][\w' -]{0,40}?"
    r"(?:'s| is| are| was| were| has| have| lives?| called) \S.*"
    r"|(?:you can |you may )?call me \S.*"
    r")"
)
_OPENING = _rule(_HAIL)


@dataclass(frozen=True)
class Intent:
    """What a message asks of memory; ``text`` is what to remember, or to forget."""

    act: Act
    text: str = ""


def intent_of(message: str) -> Intent | None:
    """Give what a whole message asks of memory, or None for one to be answered.

    A request that is only part of a message is none: what else it says would go unanswered.
    """
    text, asks = _bare(message)
    if not text or len(text) > LONGEST_REQUEST:
        return None
    if _FORGET_ALL.fullmatch(text):
        return Intent("forget_all")
    if _RECITE.fullmatch(text):
        return Intent("recite")
    if len(_SENTENCE_END.split(text)) > 1:
        return None
    if forget := _to_forget(text, asks):
        return Intent("forget", forget)
    remember = _to_remember(text, asks)
    return Intent("remember", remember) if remember else None


def said_of_oneself(message: str) -> list[str]:
    """Give the sentences of a message worth keeping, as they were said.

    These are statements of the first person that hold for longer than this conversation, and
    what it asks to remember. Questions, requests, moods, and somebody else's words are none.
    """
    text = _straight(message)
    if len(text) > LONGEST_REQUEST:
        return []
    material = bool(_MATERIAL.search(text))
    kept = [_worth_keeping(sentence.strip(), material) for sentence in _SENTENCE_END.split(text)]
    return list(dict.fromkeys(filter(None, kept)))[:MOST_SAID]


def _worth_keeping(sentence: str, material: bool) -> str:
    bare, asks = _bare(sentence)
    if wanted := _to_remember(bare, asks):
        return wanted
    if material or asks or not _ABOUT_ONESELF.fullmatch(bare):
        return ""
    return _OPENING.sub("", sentence, count=1)


def _to_remember(text: str, asks: bool) -> str:
    found = _REMEMBER.fullmatch(text)
    if found is None or (asks and not found["asked"]):
        return ""
    said: str = found["text"].strip()
    if _REMINISCENCE.match(said) or _TALK.match(said):
        return ""
    return said if found["colon"] or _is_statement(said) else ""


def _to_forget(text: str, asks: bool) -> str:
    found = _FORGET.fullmatch(text)
    if found is None or (asks and not found["asked"]):
        return ""
    if found["that"] and not _is_statement(found["that"]):
        return ""
    wanted = next(filter(None, found.group("named", "id", "that", "about", "mine")), "")
    return "" if _IDIOM.fullmatch(wanted.strip()) else wanted.strip()


def _is_statement(text: str) -> bool:
    """Say whether words after "that" are a clause, and not a thing pointed at."""
    first, _, rest = text.partition(" ")
    return bool(rest.strip()) and bool(_FIRST_PERSON.match(first) or _VERB.search(rest))


def _straight(message: str) -> str:
    return message.strip().replace("’", "'")


def _bare(message: str) -> tuple[str, bool]:
    """Give a message without what ends it, and whether that is a question mark."""
    text = _straight(message)[: LONGEST_REQUEST + 1]
    ended = text.rstrip(" .!?\t\n")
    asks = "?" in text[len(ended) :]
    bare = re.sub(r"[ \t]+", " ", _TAIL.sub("", ended))
    return bare.rstrip(" ,.!"), asks
