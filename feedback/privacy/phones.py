"""Phone numbers: by calling code, by a telling shape, by a word before them, or by the plan of the writer's country."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata

_DATE = re.compile(
    r"\d{1,2}[./\- ]{1,3}\d{1,2}[./\- ]{1,3}\d{4}(?!\d)|\d{4}[./\-]\d{1,2}[./\-]\d{1,2}(?!\d)|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$"
)
_TELLING = re.compile(
    r"(?:1[ .\-])?(?:\([2-9]\d\d\)[ \-]{0,2}|[2-9]\d\d[.\-])\d{3}[ .\-]\d{4}"  # North America
    r"|\(0[1-9]\d{0,3}\)(?:[ /\-]{0,3}\d){5,9}"
    r"|0[1-9](?:[. ]\d\d){4}"  # France
    r"|1[3-9]\d[ \-]\d{4}[ \-]\d{4}"  # China
    r"|0[789]0-\d{4}-\d{4}"  # Japan
    r"|\((?:[1-9]\d)\) ?9?\d{4}-\d{4}"  # Brazil
)
_AMERICAN = re.compile(r"(?:1 )?[2-9]\d\d [2-9]\d\d[ \-]\d{4}")
_TRUNK = re.compile(r"0(?!800|180|900|700|137)[1-9]\d{0,3}(?: ?[/\-] ?| )?\d(?:[ \-]?\d){4,9}")
_IN_A_ROW = re.compile(r"(?<!\d)\d{1,4} \Z")
"""A number before it: these are many short ones, not one."""
_MOBILES_WITHOUT_TRUNK = ("IN",)
_CHINESE = re.compile(r"1[3-9]\d{9}")
_CJK = re.compile(r"[\u3400-\u9fff]")


EXTENSION = re.compile(r" ?(?:x|ext)\.? ?\d{1,6}\Z", re.I)


def is_phone(written: str, digits: str, left: str, says_phone: bool, region: str | None) -> bool:
    """Whether a number, as it is written after `left`, is one to call."""
    size = len(digits)
    if size < 7 or size > 16:
        return False
    if written[0] == "+" or written.startswith("(+"):
        return 7 <= size <= 15 and _has_calling_code(digits) and (size > 8 or _DATE.match(written[1:]) is None)
    if digits.startswith("00") and size >= 10 and _is_abroad(digits[2:]):
        return True
    if _DATE.match(written):
        return False
    if says_phone:
        return size <= 15
    if _IN_A_ROW.search(left) is not None:
        return False
    if _AMERICAN.fullmatch(written) and region is None:
        return _is_at_home(written, digits, "US") or _is_at_home(written, digits, "CA")
    if _TELLING.fullmatch(written):
        return True
    if 9 <= size <= 12 and _TRUNK.fullmatch(written):
        return True
    if _CHINESE.fullmatch(written) and (region in ("CN", "HK", "TW") or _CJK.search(left) is not None):
        return True
    return region is not None and _is_at_home(written, digits, region)


def _is_at_home(written: str, digits: str, region: str) -> bool:
    """In the plan of the country, and written as numbers are: in groups, or with the digit that its long-distance calls begin with."""
    plan = _plan(region)
    if plan is None:
        return False
    trunk = digits.startswith(plan.trunk) if plan.trunk else False
    national = digits[len(plan.trunk) :] if trunk else digits
    if plan.trunk == "0" and not trunk and region not in _MOBILES_WITHOUT_TRUNK:
        return False
    if plan.valid.fullmatch(national) is None:
        return False
    return not written.isdecimal() or (trunk and len(digits) >= 10)


def _has_calling_code(digits: str) -> bool:
    codes = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    return digits[0] != "0" and any(int(digits[:size]) in codes for size in (1, 2, 3))


def _is_abroad(digits: str) -> bool:
    for size in (1, 2, 3):
        for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:size] or 0), ()):
            plan = _plan(region)
            if plan is not None and plan.valid.fullmatch(digits[size:]):
                return True
    return False


class _Plan(NamedTuple):
    valid: re.Pattern[str]
    trunk: str


@lru_cache(maxsize=512)
def _plan(region: str) -> _Plan | None:
    """A country's numbers, of people rather than of hotlines, and what precedes them within it."""
    data = PhoneMetadata.metadata_for_region(region, None)
    if data is None:
        return None
    kinds = (data.fixed_line, data.mobile, data.personal_number, data.voip, data.pager)
    patterns = [kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern]
    return _Plan(re.compile("|".join(patterns) or "(?!)"), data.national_prefix or "")
