"""A selector's text → its value, by recursive descent.

::

    selector = conjunct { "or" conjunct }
    conjunct = term { "and" term }
    term     = "not" term | "(" selector ")" | "all" | "has" KEY | "trusted" "(" KEY "=" VALUE ")"
             | KEY ( "=" | "!=" ) VALUE | KEY [ "not" ] "in" "(" VALUE { "," VALUE } ")"

Promises a normal form (``text.normal``) or a ``SelectorError`` with a place; depth and length are bounded.
"""

from difflib import get_close_matches

from stockade.core.model.selector import ALL, And, Equal, Has, In, Not, Or, Selector
from stockade.core.select.lexer import Kind, SelectorError, Token, tokens
from stockade.core.select.text import joined
from stockade.core.select.words import KEY_LIMIT, RESERVED, VALUE_LIMIT, is_key, is_value

DEPTH_LIMIT = 32
"""Parentheses and ``not``s within each other."""

__all__ = ["SelectorError", "parse"]

_OPERATORS = "=, !=, in (…) or not in (…)"
_TERMS = "key = value, has key, not …, (…) or all"
_SYNONYMS = {
    "is": "=",
    "eq": "=",
    "equals": "=",
    "ne": "!=",
    "on": "in",
    "of": "in",
    "notin": "not in",
    "exists": "has",
}


def parse(text: str) -> Selector:
    """Parse a selector into its normal form. Raises ``SelectorError``."""
    parser = _Parser(tokens(text))
    selector = parser.selector(0)
    parser.finish()
    return selector


class _Parser:
    """Walks the tokens, one ahead."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.at = 0

    def selector(self, depth: int) -> Selector:
        terms = [self.conjunct(depth)]
        while self.take("or"):
            terms.append(self.conjunct(depth))
        return joined(Or, terms)

    def conjunct(self, depth: int) -> Selector:
        terms = [self.term(depth)]
        while self.take("and"):
            terms.append(self.term(depth))
        return joined(And, terms)

    def term(self, depth: int) -> Selector:
        if depth > DEPTH_LIMIT:
            raise self.wrong("nested too deeply", f"at most {DEPTH_LIMIT} levels")
        if self.take("not"):
            return Not(self.term(depth + 1))
        if self.take("("):
            inner = self.selector(depth + 1)
            self.demand(")")
            return inner
        if self.take("all"):
            return ALL
        if self.take("has"):
            return Has(self.key())
        if self.take("trusted"):
            return self.trusted()
        return self.comparison()

    def trusted(self) -> Selector:
        self.demand("(")
        key = self.key()
        self.demand("=")
        value = self.value()
        self.demand(")")
        return Equal(key, value, trusted=True)

    def comparison(self) -> Selector:
        key = self.key()
        if self.take("="):
            return Equal(key, self.value())
        if self.take("!="):
            return Not(Equal(key, self.value()))
        if self.take("in"):
            return In(key, self.values())
        if self.take("not"):
            self.demand("in")
            return Not(In(key, self.values()))
        raise self.no_operator(key)

    def values(self) -> tuple[str, ...]:
        self.demand("(")
        values = {self.value()}
        while self.take(","):
            values.add(self.value())
        self.demand(")", "a comma or )")
        return tuple(sorted(values))

    def key(self) -> str:
        token = self.tokens[self.at]
        if token.kind is Kind.WORD and is_key(token.text):
            self.at += 1
            return token.text
        raise self.no_key(token)

    def value(self) -> str:
        token = self.tokens[self.at]
        if token.kind not in (Kind.WORD, Kind.QUOTED):
            quoted = f'"{token.text}"' if token.kind is Kind.KEYWORD else ""
            what = f"{token.said} is a reserved word" if quoted else f"a value is missing before {token.said}"
            raise self.wrong(what, "a value; reserved words are quoted" if quoted else "a value", quoted)
        if not is_value(token.text):
            raise self.wrong("a label cannot have this value", f"1 to {VALUE_LIMIT} characters of Unicode")
        self.at += 1
        return token.text

    def take(self, text: str) -> bool:
        token = self.tokens[self.at]
        taken = token.kind in (Kind.SIGN, Kind.KEYWORD) and token.text == text
        self.at += taken
        return taken

    def demand(self, text: str, expected: str = "") -> None:
        if not self.take(text):
            token = self.tokens[self.at]
            raise self.wrong(f"{text} is missing before {token.said}", expected or text)

    def finish(self) -> None:
        token = self.tokens[self.at]
        if token.kind is Kind.END:
            return
        if token.kind is Kind.SIGN and token.text == ")":
            raise self.wrong("this parenthesis was never opened")
        if token.kind is Kind.SIGN and token.text == ",":
            raise self.wrong("a comma stands only between the values of in (…)", "and, or", "and")
        raise self.wrong(f"{token.said} cannot follow here", "and, or, or the end", _nearest(token.text, ("and", "or")))

    def wrong(self, message: str, expected: str = "", nearest: str = "") -> SelectorError:
        token = self.tokens[self.at]
        return SelectorError(message, token.offset, token.length, expected, nearest)

    def no_operator(self, key: str) -> SelectorError:
        """Say what is missing after a key; a lone near-keyword (``hass app``) is named."""
        token = self.tokens[self.at]
        before = self.tokens[self.at - 1]
        if token.kind is Kind.WORD and (keyword := _nearest(key, ("has", "not", "all"))):
            return SelectorError(f'"{key}" is no keyword', before.offset, before.length, _TERMS, keyword)
        if token.kind is Kind.SIGN and token.text == "(" and (keyword := _nearest(key, ("trusted",))):
            return SelectorError(f'"{key}" is no keyword', before.offset, before.length, _TERMS, keyword)
        nearest = _SYNONYMS.get(token.text.lower(), "") if token.kind is Kind.WORD else ""
        return self.wrong(f'after the key "{key}" comes {token.said}', _OPERATORS, nearest)

    def no_key(self, token: Token) -> SelectorError:
        if token.kind is Kind.QUOTED:
            return self.wrong("a key is written without quotes", "a key", token.text if is_key(token.text) else "")
        if token.text in ("any", "networks"):
            return self.wrong(f"{token.text}(…) is a whole end of a rule, never part of a selector", _TERMS)
        if token.kind is Kind.KEYWORD and token.text in RESERVED:
            return self.wrong(f"{token.said} is a reserved word", _TERMS)
        if token.kind is Kind.WORD:
            expected = f"letters, digits and _ . / -; at most {KEY_LIMIT} characters"
            key, colon, value = token.text.partition(":")
            nearest = f"{key} = {value}" if colon and value and is_key(key) else ""
            return self.wrong("no label has such a key", expected, nearest)
        return self.wrong(f"a term is missing before {token.said}", _TERMS)


def _nearest(word: str, candidates: tuple[str, ...]) -> str:
    close = get_close_matches(word.lower()[:64], candidates, n=1, cutoff=0.6)
    return close[0] if close else ""
