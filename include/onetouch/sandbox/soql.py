"""Compiles SOQL by Salesforce's rules into one SQL statement over the stand-in's tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from onetouch.sandbox.fields import Field, SObject, full_id

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))
      | (?P<date>\d{4}-\d\d-\d\d(?![\dT]))
      | (?P<number>[+-]?\d+(?:\.\d+)?(?![\w.]))
      | (?P<name>[A-Za-z]\w*(?:\.[A-Za-z]\w*)*(?::\d+)?)
      | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\"}
_MAX_STATEMENT: Final = 100_000
_MAX_STRING: Final = 4_000
_RESERVED: Final = {"and", "or", "not", "in", "like", "from", "where", "order", "limit", "offset", "null", "select"}


class SoqlError(Exception):
    """A refused query, with errorCode and message as in the API's answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Token(NamedTuple):
    """One word of a query and its position."""

    kind: str
    text: str
    at: int


@dataclass
class Statement:
    """A compiled query: SQL, its parameters, and how a row becomes a record."""

    sobject: SObject
    sql: str
    parameters: list[Any]
    parents: list[tuple[tuple[str, ...], SObject]]  # joined tables: (("Owner",), User)
    paths: list[tuple[str, ...]]  # of each selected field: ("Owner", "Email")
    fields: list[Field]
    count: bool


def compile_soql(text: str, org: dict[str, SObject], now: datetime, *, deleted: bool) -> Statement:
    """One SOQL query as SQL. Raises SoqlError with the code Salesforce would answer."""
    if len(text) > _MAX_STATEMENT:
        raise SoqlError("QUERY_TOO_COMPLICATED", "SOQL statements can not be longer than 100,000 characters.")
    parser = _Parser(text, org, now, deleted)
    statement = parser.query(top=True)
    parser.end()
    return statement


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if not match or not match.lastgroup:
            rest = text[at:].lstrip()
            if rest.startswith("'"):
                raise SoqlError("MALFORMED_QUERY", f"line 1:{at + 1} mismatched character '<EOF>' expecting '''")
            raise SoqlError("MALFORMED_QUERY", f"unexpected token: '{rest[:1]}'")
        found.append(Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
        at = match.end()
    return found


def _string(token: Token, *, like: bool) -> str:
    """The value of a quoted string; for LIKE, escaped wildcards stay escaped with a backslash."""
    out, i, body = [], 0, token.text[1:-1]
    while i < len(body):
        letter = body[i]
        if letter == "\\":
            mark = body[i + 1]
            if mark in "uU" and re.fullmatch(r"[0-9A-Fa-f]{4}", body[i + 2 : i + 6]):
                out.append(chr(int(body[i + 2 : i + 6], 16)))
                i += 6
                continue
            if mark in "_%" and like:
                out.append("\\" + mark)
            elif mark.lower() in _ESCAPES:
                value = _ESCAPES[mark.lower()]
                out.append("\\\\" if like and value == "\\" else value)
            else:
                raise SoqlError(
                    "MALFORMED_QUERY",
                    f"Invalid string literal {token.text}. Illegal character sequence '\\{mark}' in string literal.",
                )
            i += 2
            continue
        out.append(letter)
        i += 1
    try:  # \uD83D\uDE00 is one character; half of it is invalid
        value = "".join(out).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise SoqlError("MALFORMED_QUERY", f"Invalid string literal {token.text!a}.") from error
    if len(value) > _MAX_STRING:
        raise SoqlError("MALFORMED_QUERY", "string literal of the WHERE clause is longer than 4000 characters")
    return value


def _day_range(name: str, now: datetime) -> tuple[datetime, datetime] | None:
    """[start, end) of a date literal such as TODAY or LAST_N_DAYS:7, in UTC."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    word, _, number = name.upper().partition(":")
    days = int(number) if number else 0
    spans = {
        "TODAY": (0, 1),
        "YESTERDAY": (-1, 0),
        "TOMORROW": (1, 2),
        "LAST_N_DAYS": (-days, 1),
        "NEXT_N_DAYS": (1, days + 1),
    }
    if word not in spans or bool(number) != ("_N_" in word):
        return None
    start, end = spans[word]
    return today + timedelta(days=start), today + timedelta(days=end)


def _moment(text: str) -> str:
    value = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
    return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03d}+0000"


class _Parser:
    """A recursive descent parser of the tokens that writes the SQL at the same time."""

    def __init__(self, text: str, org: dict[str, SObject], now: datetime, deleted: bool) -> None:
        self.text, self.org, self.now, self.deleted = text, org, now, deleted
        self.tokens = _tokens(text)
        self.i = 0
        self.aliases = 0

    # -- reading

    def peek(self, ahead: int = 0) -> Token:
        at = self.i + ahead
        return self.tokens[at] if at < len(self.tokens) else Token("end", "<EOF>", len(self.text))

    def take(self) -> Token:
        token = self.peek()
        self.i += 1
        return token

    def is_word(self, *words: str, ahead: int = 0) -> bool:
        return self.peek(ahead).kind == "name" and self.peek(ahead).text.lower() in words

    def accept(self, *words: str) -> bool:
        for i, word in enumerate(words):
            if not (self.is_word(word, ahead=i) or (self.peek(i).kind == "sign" and self.peek(i).text == word)):
                return False
        self.i += len(words)
        return True

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.unexpected(self.peek(), expecting=word)

    def name(self) -> Token:
        token = self.take()
        if token.kind != "name" or token.text.lower() in _RESERVED:
            raise self.unexpected(token)
        return token

    def end(self) -> None:
        if self.peek().kind != "end":
            raise self.unexpected(self.peek())

    def located(self, at: int, message: str) -> str:
        before = self.text[max(0, at - 40) : at]
        return f"\n{before}{self.text[at : at + 40]}\n{' ' * len(before)}^\nERROR at Row:1:Column:{at + 1}\n{message}"

    def unexpected(self, token: Token, expecting: str = "") -> SoqlError:
        hint = f", expecting '{expecting.upper()}'" if expecting else ""
        return SoqlError("MALFORMED_QUERY", self.located(token.at, f"unexpected token: '{token.text}'{hint}"))

    # -- the statement

    def query(self, *, top: bool) -> Statement:
        self.expect("select")
        count = self.accept("count", "(", ")")
        wanted: list[Token] = []
        if not count:
            if self.peek(1).text == "(":
                function = self.peek().text.upper()
                raise SoqlError("MALFORMED_QUERY", f"{function}() is not offered by this stand-in: only COUNT() is")
            wanted.append(self.name())
            while self.accept(","):
                wanted.append(self.name())
        self.expect("from")
        where_from = self.name()
        sobject = self.org.get(where_from.text.lower())
        if not sobject:
            message = f"sObject type '{where_from.text}' is not supported."
            raise SoqlError("INVALID_TYPE", self.located(where_from.at, message))
        scope = _Scope(self, sobject)
        seen: set[str] = set()
        columns, fields, paths = [], [], []
        for token in wanted:
            if token.text.lower() in seen:
                raise SoqlError("INVALID_FIELD", f"duplicate field selected: {token.text}")
            seen.add(token.text.lower())
            column, field, path = scope.column(token)
            columns.append(column)
            fields.append(field)
            paths.append(path)
        conditions = [] if self.deleted else [f"{scope.alias}.IsDeleted = 0"]
        parameters: list[Any] = []
        if self.accept("where"):
            conditions.append(self.any_of(scope, parameters))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = self.order(scope) if top else ""
        limit = ""
        if top and self.accept("limit"):
            limit = f" LIMIT {self.whole()}"
        if top and self.accept("offset"):
            offset = self.whole()
            if offset > 2000:
                raise SoqlError("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
            limit = f"{limit or ' LIMIT -1'} OFFSET {offset}"
        # SQLite returns ids in key order, like Salesforce without ORDER BY in most cases; neither guarantees it.
        if count:
            selected = "count(*)"
        elif top:
            selected = ", ".join([f"{scope.alias}.Id", *scope.parent_ids(), *columns])
        else:
            selected = ", ".join(columns)
        sql = f"SELECT {selected} FROM {scope.tables()}{where}{order}{limit}"
        return Statement(sobject, sql, parameters, scope.parents(), paths, fields, count)

    def whole(self) -> int:
        token = self.take()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 9:
            raise self.unexpected(token)
        return int(token.text)

    def order(self, scope: _Scope) -> str:
        if not self.accept("order", "by"):
            return ""
        terms = []
        while True:
            token = self.name()
            column, field, _ = scope.column(token)
            if not field.filterable:
                message = f"field '{field.name}' can not be sorted in a query call"
                raise SoqlError("INVALID_FIELD", self.located(token.at, message))
            direction = "DESC" if self.accept("desc") else "ASC"
            if direction == "ASC":
                self.accept("asc")
            last = self.accept("nulls", "last")
            if not last:
                self.accept("nulls", "first")
            terms.append(f"{column} {direction} NULLS {'LAST' if last else 'FIRST'}")
            if not self.accept(","):
                return f" ORDER BY {', '.join(terms)}"

    # -- conditions: two-valued as in SOQL: a comparison with null is false

    def any_of(self, scope: _Scope, parameters: list[Any]) -> str:
        left = self.one(scope, parameters)
        if not self.is_word("and", "or"):
            return left
        word = self.peek().text.lower()  # A AND B OR C needs parentheses, so another word ends the list
        parts = [left]
        while self.accept(word):
            parts.append(self.one(scope, parameters))
        return "(" + f" {word.upper()} ".join(parts) + ")"

    def one(self, scope: _Scope, parameters: list[Any]) -> str:
        if self.accept("not"):
            return f"(NOT {self.one(scope, parameters)})"
        if self.accept("("):
            inner = self.any_of(scope, parameters)
            self.expect(")")
            return f"({inner})"
        return self.comparison(scope, parameters)

    def comparison(self, scope: _Scope, parameters: list[Any]) -> str:
        token = self.name()
        column, field = scope.kind(token) or scope.column(token)[:2]
        if not field.filterable:
            message = f"field '{field.name}' can not be filtered in a query call"
            raise SoqlError("INVALID_FIELD", self.located(token.at, message))
        negated = self.accept("not")
        if negated and not self.is_word("in"):
            raise self.unexpected(self.peek(), expecting="in")
        if self.accept("in"):
            return self.membership(scope, column, field, token, negated, parameters)
        if self.accept("like"):
            if not field.is_text or field.is_id:
                raise self.refused(token, "invalid operator on " + ("id" if field.is_id else field.type) + " field")
            value = self.take()
            if value.kind != "string":
                raise self.unexpected(value)
            parameters.append(_string(value, like=True))
            return f"(({column} LIKE ? ESCAPE '\\') IS TRUE)"
        sign = self.take()
        if sign.kind != "sign" or sign.text not in ("=", "!=", "<>", "<", ">", "<=", ">="):
            raise self.unexpected(sign)
        operator = "!=" if sign.text == "<>" else sign.text
        if field.type in ("boolean", "reference") and operator not in ("=", "!="):
            raise self.refused(token, f"invalid operator on {field.type} field")
        literal = self.take()
        if literal.kind == "name" and literal.text.lower() == "null":
            if operator not in ("=", "!="):
                raise self.unexpected(literal)
            return f"({column} IS {'NOT ' if operator == '!=' else ''}NULL)"
        span = _day_range(literal.text, self.now) if literal.kind == "name" else None
        if span and field.type in ("date", "datetime"):
            return self.within(column, field, operator, span, parameters)
        value = self.literal(literal, field)
        if value in ("", None):
            return f"({column} IS {'NOT ' if operator == '!=' else ''}NULL)"
        parameters.append(value)
        if operator == "!=":
            return f"(({column} = ?) IS NOT TRUE)"
        return f"(({column} {operator} ?) IS TRUE)"

    def within(
        self, column: str, field: Field, operator: str, span: tuple[datetime, datetime], parameters: list[Any]
    ) -> str:
        form: Callable[[datetime], str] = (
            (lambda d: f"{d:%Y-%m-%d}") if field.type == "date" else (lambda d: _moment(d.isoformat()))
        )
        start, end = form(span[0]), form(span[1])
        if operator in ("=", "!="):
            parameters.extend((start, end))
            return f"(({column} >= ? AND {column} < ?) IS {'NOT ' if operator == '!=' else ''}TRUE)"
        bound, sign = {"<": (start, "<"), ">=": (start, ">="), ">": (end, ">="), "<=": (end, "<")}[operator]
        parameters.append(bound)
        return f"(({column} {sign} ?) IS TRUE)"

    def membership(
        self, scope: _Scope, column: str, field: Field, token: Token, negated: bool, parameters: list[Any]
    ) -> str:
        self.expect("(")
        verdict = "IS NOT TRUE" if negated else "IS TRUE"
        if self.is_word("select"):
            if not field.is_id:
                raise self.refused(token, "semi join sub-selects compare ids only")
            inner = self.query(top=False)
            self.expect(")")
            if inner.count or len(inner.fields) != 1 or not inner.fields[0].is_id:
                raise SoqlError("MALFORMED_QUERY", "sub-select must have exactly one id column")
            parameters.extend(inner.parameters)
            return f"(({column} IN ({inner.sql})) {verdict})"
        values, with_null = [], False
        while True:
            literal = self.take()
            if literal.kind == "name" and literal.text.lower() == "null":
                with_null = True
            else:
                values.append(self.literal(literal, field))
            if not self.accept(","):
                break
        self.expect(")")
        with_null = with_null or "" in values
        parameters.extend(values)
        marks = ", ".join("?" * len(values))
        inside = f"({column} IN ({marks}))" + (f" OR {column} IS NULL" if with_null else "")
        return f"(({inside}) {verdict})"

    def refused(self, token: Token, message: str) -> SoqlError:
        return SoqlError("INVALID_QUERY_FILTER_OPERATOR", self.located(token.at, message))

    def literal(self, token: Token, field: Field) -> Any:
        """The value of a literal compared with `field`, of its type."""
        kind, text = token.kind, token.text
        if kind == "name" and text.lower() in ("true", "false"):
            kind = "boolean"
        if kind in ("end", "sign", "name"):
            raise self.unexpected(token)
        expected = (
            "string"
            if field.is_text
            else {"boolean": "boolean", "date": "date", "datetime": "datetime"}.get(field.type, "number")
        )
        if kind != expected:
            name = {"datetime": "dateTime", "number": "int" if field.type == "int" else "double"}.get(
                expected, expected
            )
            quotes = "" if expected == "string" else " and should not be enclosed in quotes"
            quotes = " and should be enclosed in quotes" if expected == "string" else quotes if kind == "string" else ""
            message = f"value of filter criterion for field '{field.name}' must be of type {name}{quotes}"
            raise SoqlError("INVALID_FIELD", self.located(token.at, message))
        if expected == "number":
            return float(text)
        if expected == "boolean":
            return int(text.lower() == "true")
        try:
            if expected == "datetime":
                return _moment(text)
            if expected == "date":
                return date.fromisoformat(text).isoformat()
        except ValueError as error:
            raise SoqlError("MALFORMED_QUERY", self.located(token.at, f"invalid {expected}: {text}")) from error
        value = _string(token, like=False)
        if field.is_id and value:
            record_id = full_id(value)
            if not record_id:
                raise self.refused(token, f"invalid ID field: {value}")
            return record_id
        return value


class _Scope:
    """The tables a query reads: its sObject and the parents in its field paths."""

    def __init__(self, parser: _Parser, sobject: SObject) -> None:
        self.parser, self.sobject = parser, sobject
        self.alias = self._next_alias()
        self.joins: dict[tuple[str, ...], tuple[str, SObject, str]] = {}

    def _next_alias(self) -> str:
        self.parser.aliases += 1
        return f"t{self.parser.aliases}"

    def tables(self) -> str:
        """The FROM clause: the sObject joined with the parents in its paths."""
        return " ".join([f'"{self.sobject.name}" {self.alias}', *(join for _, _, join in self.joins.values())])

    def parents(self) -> list[tuple[tuple[str, ...], SObject]]:
        """The joined parents, in order."""
        return [(path, sobject) for path, (_, sobject, _) in self.joins.items()]

    def parent_ids(self) -> list[str]:
        """The id columns of the parents, in the same order."""
        return [f"{alias}.Id" for alias, _, _ in self.joins.values()]

    def kind(self, token: Token) -> tuple[str, Field] | None:
        """Who.Type, What.Type: the name of the object that a reference to several leads to; None for another path."""
        steps = token.text.lower().split(".")
        for field in self.sobject.fields.values():
            if len(field.references) > 1 and steps == [field.relationship.lower(), "type"]:
                kinds = " ".join(
                    f"WHEN '{self.parser.org[name.lower()].prefix}' THEN '{name}'" for name in field.references
                )
                return f"(CASE substr({self.alias}.{field.name}, 1, 3) {kinds} END)", Field("Type", "string")
        return None

    def column(self, token: Token) -> tuple[str, Field, tuple[str, ...]]:
        """A path such as Owner.Email as a SQL column, its field, and the path in the org's spelling."""
        steps = token.text.split(".")
        if (
            len(steps) > 1
            and steps[0].lower() == self.sobject.name.lower()
            and not self._parent(self.sobject, steps[0])
        ):
            steps = steps[1:]
        alias, sobject = self.alias, self.sobject
        spelled: list[str] = []
        for step in steps[:-1]:
            reference = self._parent(sobject, step)
            if not reference:
                message = f"Didn't understand relationship '{step}' in field path. If you are attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name. Please reference your WSDL or the describe call for the appropriate names."  # noqa: E501
                raise SoqlError("INVALID_FIELD", self.parser.located(token.at, message))
            spelled.append(reference.relationship)
            path = tuple(spelled)
            if path not in self.joins:
                target = self.parser.org[reference.references[0].lower()]
                parent = self._next_alias()
                join = f'LEFT JOIN "{target.name}" {parent} ON {parent}.Id = {alias}.{reference.name}'
                self.joins[path] = (parent, target, join)
            alias, sobject, _ = self.joins[path]
        field = sobject.find(steps[-1])
        if not field:
            message = f"No such column '{steps[-1]}' on entity '{sobject.name}'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names."  # noqa: E501
            raise SoqlError("INVALID_FIELD", self.parser.located(token.at, message))
        spelled.append(field.name)
        return f"{alias}.{field.name}", field, tuple(spelled)

    @staticmethod
    def _parent(sobject: SObject, name: str) -> Field | None:
        for field in sobject.fields.values():
            # What and Who refer to several types; here only their ids can be read, and their kind in a filter.
            if field.relationship.lower() == name.lower() and len(field.references) == 1:
                return field
        return None
