"""Search of the calendar codes by the words people use: a city, a country, an exchange, an index, a futures root."""

from __future__ import annotations

import io
import re

import polars as pl

from engine.arguments import similar_names
from engine.calendars.providers import DATA, calendar_codes
from engine.errors import CalendarError

WORDS = DATA / "search_words.csv"


def search_calendars(text: str) -> pl.DataFrame:
    """Rows of `calendar_codes` in which every word of the text begins a word (case ignored); CalendarError: none.

    Words of a row are those of its code, zone and description, and its words in `data/search_words.csv` (cities,
    countries, indices); an alias has those of the code it stands for. Whole-word matches come first, aliases last among equals.

    Raises
    ------
    CalendarError
        No calendar has all words; the message names similar words.
    """
    codes = calendar_codes()
    more = pl.read_csv(io.BytesIO(WORDS.read_bytes()), schema={"code": pl.String, "words": pl.String})
    stands_for = pl.col("description").str.strip_prefix("as ")
    listed = codes.with_columns(
        pl.when(pl.col("code").is_in(more["code"].to_list())).then("code").otherwise(stands_for).alias("of")
    )
    listed = listed.join(more.rename({"code": "of"}), on="of", how="left", maintain_order="left")
    texts = listed.select(pl.concat_str("code", "zone", "description", pl.col("words").fill_null(""), separator=" "))
    words_of = [words_in(row) for row in texts.to_series()]
    wanted = words_in(text)
    # Fewer than the list of codes has rows, and each is compared with a few words: no data path.
    begins = [all(any(word.startswith(one) for word in words) for one in wanted) for words in words_of]
    whole = [wanted <= words for words in words_of]
    found = codes.with_columns(pl.Series("begins", begins), pl.Series("whole", whole)).filter("begins")
    if found.is_empty() or not wanted:
        known = sorted(set().union(*words_of))
        near = [other for word in sorted(wanted) for other in similar_names(word, known, 2)]
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        raise CalendarError(f"--search: no calendar has {text!r}{hint}; `engine calendars` lists all codes")
    # An alias comes after the codes themselves.
    order = ~pl.col("whole"), pl.col("description").str.starts_with("as ")
    return found.sort(order, maintain_order=True).drop("begins", "whole")


def words_in(text: str) -> frozenset[str]:
    """Words of a text in lower case, cut at anything but letters, digits, `&` and `/`; the whole if it has no blank."""
    folded = text.casefold()
    whole = [folded] if folded.strip() and " " not in folded else []
    return frozenset([*re.findall(r"[\w&/]+", folded.replace("_", " ")), *whole])
