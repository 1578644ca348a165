"""Comparison of two sets of the same bars on one grid. Pure: frames in, frames out.

1. `shared_sessions`: of a series that both sides have, the sessions that both reach are compared; what lies outside is counted.
2. `pair_bars`: every bar of one side with the bar of the other at the same place.
3. `mark_differences`: a value differs when it is further off than its tolerance, or when only one side has it.
4. `difference_causes.attribute_differences` labels each bar that differs with a guess of the cause.
5. The pairs are counted up: per series (`SUMMARY`), per column (`COLUMNS`), per cause (`CAUSES`); of the bars
   themselves the first of each series and cause are shown (`DIFFERENCES`).

Values are equal up to `EQUAL`: sums of the same numbers in another order differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from engine.arguments import check_arguments
from engine.audit.difference_causes import COMPARED, KEY, PRICES, attribute_differences
from engine.audit.rules import Tolerance
from engine.checks.findings import findings
from engine.errors import ParameterError, SchemaError
from engine.schema import TS, Schema, empty

AT = [*KEY, "ts"]
EQUAL = Tolerance(relative=1e-9)
TOLERABLE = ("price", *COMPARED)
NAMES: Schema = dict.fromkeys(KEY, pl.String())
SUMMARY: Schema = {
    **NAMES,
    "state": pl.String(),
    **dict.fromkeys(("rows_a", "rows_b", "outside_a", "outside_b"), pl.Int64()),
    **dict.fromkeys(("common", "equal", "different", "only_a", "only_b"), pl.Int64()),
    "cause": pl.String(),
}
COLUMNS: Schema = {
    **NAMES,
    "column": pl.String(),
    "compared": pl.Int64(),
    "different": pl.Int64(),
    "max_abs": pl.Float64(),
    "median_rel": pl.Float64(),
    "first_ts": TS,
    "first_a": pl.Float64(),
    "first_b": pl.Float64(),
}
CAUSES: Schema = {
    **NAMES,
    "cause": pl.String(),
    "rows": pl.Int64(),
    "columns": pl.String(),
    "median_rel": pl.Float64(),
    "first_ts": TS,
    "last_ts": TS,
    "evidence": pl.String(),
    "remedy": pl.String(),
}
DIFFERENCES: Schema = {
    **NAMES,
    "ts": TS,
    "session": pl.Date(),
    "cause": pl.String(),
    "side": pl.String(),
    "column": pl.String(),
    "a": pl.Float64(),
    "b": pl.Float64(),
    "difference": pl.Float64(),
    "relative": pl.Float64(),
}
SEVERE = ("zone", "scale", "adjustment", "hours", "session_missing", "only_a", "only_b", "apart")


@dataclass(frozen=True)
class Reconciled:
    """How two sides compare.

    Attributes
    ----------
    summary : DataFrame
        `SUMMARY`, one row per series: `state` is equal, different, only_a, only_b, or apart (no session that both
        reach); `outside_*` are bars of sessions that the other does not reach; `cause` is the one of most bars.
    columns : DataFrame
        `COLUMNS`, one row per series and column that differs somewhere; `median_rel` is of the values that differ, b
        less a by the larger of the two.
    causes : DataFrame
        `CAUSES`, one row per series and cause.
    differences : DataFrame
        `DIFFERENCES`, one row per value that differs; a bar of one side alone is one row without a column.
    """

    summary: pl.DataFrame
    columns: pl.DataFrame
    causes: pl.DataFrame
    differences: pl.DataFrame

    @property
    def is_equal(self) -> bool:
        """Whether all series are on both sides and equal in shared sessions; other bars do not count; no series: True."""
        return bool((self.summary["state"] == "equal").all())

    @property
    def findings(self) -> pl.DataFrame:
        """One finding per series and cause (`SEVERE`: error, else warning), and an error per one-sided or apart series."""
        lone = self.summary.filter(pl.col("state").is_in(["only_a", "only_b", "apart"])).select(
            *KEY, pl.col("state").alias("cause"), (pl.col("rows_a") + pl.col("rows_b")).alias("rows")
        )
        rows = pl.concat([empty(CAUSES), self.causes, lone], how="diagonal")
        severe = pl.when(pl.col("cause").is_in(SEVERE)).then(pl.lit("error")).otherwise(pl.lit("warning"))
        what = pl.col("cause").str.replace_all("_", " ", literal=True)
        message = pl.concat_str(
            pl.format("{} bars of A and B differ: {}", "rows", what), pl.format(" ({})", "columns"), ignore_nulls=True
        )
        return findings(
            rows.select(
                *KEY,
                pl.format("reconcile {}", what).alias("check_name"),
                severe.alias("severity"),
                message.alias("message"),
                pl.col("first_ts").alias("start_ts"),
                pl.col("last_ts").alias("end_ts"),
                pl.col("rows").alias("count"),
                pl.col("median_rel").alias("value"),
                "evidence",
                "remedy",
            )
        )


@dataclass(frozen=True)
class Tolerances:
    """How far apart values may be and still be equal.

    Attributes
    ----------
    of : mapping of column to Tolerance
        `price` stands for open, high, low and close.
    """

    of: Mapping[str, Tolerance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        strange = [name for name in self.of if name not in TOLERABLE]
        if strange:
            raise ParameterError(f"tolerance: received {', '.join(strange)}; valid: {', '.join(TOLERABLE)}")

    def for_column(self, name: str) -> Tolerance:
        """Return the column's tolerance; for open, high, low, close else that of `price`; default `EQUAL`."""
        return self.of.get(name, self.of.get("price", EQUAL) if name in PRICES else EQUAL)


@check_arguments("a", "b", "tolerances", "limit", "finer")
def reconcile(
    a: pl.DataFrame,
    b: pl.DataFrame,
    tolerances: Tolerances | None = None,
    limit: int | None = None,
    finer: pl.DataFrame | None = None,
) -> Reconciled:
    """Compare bars in sessions both sides reach and guess a cause per difference; SchemaError for bad columns or keys.

    Parameters
    ----------
    a, b : DataFrame
        As the `bars` table: `symbol, price_type, interval, ts, session, open, high, low, close`, and any of `volume,
        vwap, trades`; no two rows of a side with one (symbol, price_type, interval, ts), in any order. A column is
        compared where both sides have any value of it in a series.
    tolerances : Tolerances, optional
        Default: equal up to `EQUAL`.
    limit : int, optional
        How many bars `differences` shows; None for all. Everything is counted all the same.
    finer : DataFrame, optional
        Bars that those of A were derived from, and those beside them: they tell which hours days of B cover.

    Raises
    ------
    SchemaError
        A column is missing, or two rows have one key.
    """
    tolerances = tolerances or Tolerances()
    a, b = conform_side(a, "A"), conform_side(b, "B")
    spans = shared_sessions(a, b)
    pairs = mark_differences(
        pair_bars(bars_of_shared_sessions(a, spans), bars_of_shared_sessions(b, spans), spans), tolerances
    )
    different = attribute_differences(pairs, finer)
    causes = cause_table(different)
    return Reconciled(
        summary_table(spans, pairs, causes),
        column_table(pairs),
        causes.select(*CAUSES),
        difference_table(different, limit),
    )


def conform_side(side: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return key, session, `COMPARED` (NaN, absent amounts: null); SchemaError: no key, session, price; double keys."""
    needed = [*AT, "session", *PRICES]
    absent = [column for column in needed if column not in side.columns]
    if absent:
        raise SchemaError(f"{name}: lacks {', '.join(absent)}; it has {', '.join(side.columns)}")
    values = [
        pl.col(one).cast(pl.Float64).fill_nan(None) if one in side.columns else pl.lit(None, pl.Float64).alias(one)
        for one in COMPARED
    ]
    kept = side.select(*AT, "session", *values)
    twice = kept.filter(pl.struct(AT).is_duplicated())
    if twice.height:
        first = twice.row(0, named=True)
        raise SchemaError(
            f"{name}: {twice.height} rows share their place with others; the first is {first['symbol']} "
            f"{first['price_type']} {first['interval']} at {first['ts']}; valid: one row for each"
        )
    return kept


def shared_sessions(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """Return per series `state` (both, only_a, only_b, apart), shared (or own) `first, last` session, `rows_a`, `rows_b`."""
    reach = [
        pl.col("session").min().alias("first"),
        pl.col("session").max().alias("last"),
        pl.len().cast(pl.Int64).alias("rows"),
    ]
    sides = [side.group_by(KEY).agg(reach) for side in (a, b)]
    both = sides[0].join(sides[1], on=KEY, how="full", coalesce=True, suffix="_b")
    first, last = pl.max_horizontal("first", "first_b"), pl.min_horizontal("last", "last_b")
    state = (
        pl.when(pl.col("rows_b").is_null())
        .then(pl.lit("only_a"))
        .when(pl.col("rows").is_null())
        .then(pl.lit("only_b"))
        .when(first > last)
        .then(pl.lit("apart"))
        .otherwise(pl.lit("both"))
    )
    return both.select(
        *KEY,
        first.alias("first"),
        last.alias("last"),
        state.alias("state"),
        pl.col("rows").fill_null(0).alias("rows_a"),
        pl.col("rows_b").fill_null(0),
    ).sort(KEY)


def bars_of_shared_sessions(side: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Return bars in `first..last` of series of state `both`; `series`, the row number in `spans`, replaces the key."""
    shared = spans.with_row_index("series").filter(pl.col("state") == "both").select(*KEY, "series", "first", "last")
    beside = side.join(shared, on=KEY, how="inner")
    return beside.filter(pl.col("session").is_between("first", "last")).drop("first", "last", *KEY)


def pair_bars(a: pl.DataFrame, b: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Full-join sides of `bars_of_shared_sessions`: `<value>_a`, `<value>_b`, `side` (both, a, b), series key; sorted."""
    ours = a.rename({name: f"{name}_a" for name in COMPARED}).with_columns(pl.lit(value=True).alias("in_a"))
    theirs = b.rename({name: f"{name}_b" for name in COMPARED} | {"session": "session_b"}).with_columns(
        pl.lit(value=True).alias("in_b")
    )
    # A join on a number takes a third of one on three texts.
    pairs = ours.join(theirs, on=["series", "ts"], how="full", coalesce=True).sort("series", "ts")
    side = (
        pl.when(pl.col("in_b").is_null())
        .then(pl.lit("a"))
        .when(pl.col("in_a").is_null())
        .then(pl.lit("b"))
        .otherwise(pl.lit("both"))
    )
    session = pl.coalesce("session", "session_b")
    named = spans.select(KEY)[pairs["series"]].hstack(pairs.drop("series"))
    return named.with_columns(side.alias("side"), session.alias("session")).drop("in_a", "in_b", "session_b")


def mark_differences(pairs: pl.DataFrame, tolerances: Tolerances) -> pl.DataFrame:
    """Add `<value>_compared` (paired bar, and the series has the column on both sides) and `<value>_differs`."""
    # Only what both sides ever tell is compared.
    told = pairs.group_by(KEY).agg(
        (pl.col(f"{name}_a").is_not_null().any() & pl.col(f"{name}_b").is_not_null().any()).alias(f"{name}_compared")
        for name in COMPARED
    )
    beside = pairs.join(told, on=KEY, how="left", maintain_order="left")
    is_pair = pl.col("side") == "both"
    compared = [(pl.col(f"{name}_compared") & is_pair).alias(f"{name}_compared") for name in COMPARED]
    return beside.with_columns(compared).with_columns(is_different(name, tolerances) for name in COMPARED)


def is_different(name: str, tolerances: Tolerances) -> pl.Expr:
    """Expression `NAME_differs`: beyond the larger tolerance or null on one side; False where `NAME_compared` is."""
    a, b, tolerance = pl.col(f"{name}_a"), pl.col(f"{name}_b"), tolerances.for_column(name)
    bound = pl.max_horizontal(tolerance.absolute, tolerance.relative * pl.max_horizontal(a.abs(), b.abs()))
    far = ((a - b).abs() > bound).fill_null(value=True) & a.ne_missing(b)
    return (pl.col(f"{name}_compared") & far).alias(f"{name}_differs")


def summary_table(spans: pl.DataFrame, pairs: pl.DataFrame, causes: pl.DataFrame) -> pl.DataFrame:
    """Return one row per series: bar counts, rows outside shared sessions, commonest cause; `equal` if no fault."""
    differs = pl.any_horizontal(f"{name}_differs" for name in COMPARED)
    side = pl.col("side")
    counted = pairs.group_by(KEY).agg(
        (side == "both").sum().alias("common"),
        ((side == "both") & ~differs).sum().alias("equal"),
        differs.sum().alias("different"),
        (side == "a").sum().alias("only_a"),
        (side == "b").sum().alias("only_b"),
    )
    most = causes.sort("rows", descending=True, maintain_order=True).unique(KEY, keep="first", maintain_order=True)
    whole = spans.join(counted, on=KEY, how="left").join(most.select(*KEY, "cause"), on=KEY, how="left")
    counts = ["common", "equal", "different", "only_a", "only_b"]
    whole = whole.with_columns(pl.col(counts).fill_null(0).cast(pl.Int64))
    faults = pl.col("different") + pl.col("only_a") + pl.col("only_b")
    state = (
        pl.when(pl.col("state") != "both")
        .then("state")
        .when(faults == 0)
        .then(pl.lit("equal"))
        .otherwise(pl.lit("different"))
    )
    return (
        whole.with_columns(
            state.alias("state"),
            (pl.col("rows_a") - pl.col("common") - pl.col("only_a")).alias("outside_a"),
            (pl.col("rows_b") - pl.col("common") - pl.col("only_b")).alias("outside_b"),
        )
        .select(*SUMMARY)
        .sort(KEY)
    )


def column_table(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return one row per series and column that differs somewhere, in the order of series and `COMPARED`."""
    parts = [differences_of_column(pairs, name) for name in COMPARED]
    order = pl.col("column").cast(pl.Enum(COMPARED))
    return pl.concat([empty(COLUMNS), *parts]).sort(*KEY, order)


def differences_of_column(pairs: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return per series with differences: values compared, different, largest, median relative, first."""
    a, b, differs = pl.col(f"{name}_a"), pl.col(f"{name}_b"), pl.col(f"{name}_differs")
    counted = pairs.group_by(KEY).agg(
        pl.col(f"{name}_compared").sum().cast(pl.Int64).alias("compared"),
        differs.sum().cast(pl.Int64).alias("different"),
        (a - b).abs().filter(differs).max().alias("max_abs"),
        relative_difference(a, b).filter(differs).median().alias("median_rel"),
        pl.col("ts").filter(differs).first().alias("first_ts"),
        a.filter(differs).first().alias("first_a"),
        b.filter(differs).first().alias("first_b"),
    )
    return counted.filter(pl.col("different") > 0).with_columns(pl.lit(name).alias("column")).select(*COLUMNS)


def cause_table(different: pl.DataFrame) -> pl.DataFrame:
    """Return one row per cause, by series, then most bars first: columns, median relative size, span, evidence, remedy."""
    which = [pl.when(pl.col(f"{name}_differs").any()).then(pl.lit(name)).alias(name) for name in COMPARED]
    sizes = [
        pl.when(f"{name}_differs").then(relative_difference(pl.col(f"{name}_a"), pl.col(f"{name}_b")))
        for name in COMPARED
    ]
    counted = (
        different.with_columns(pl.mean_horizontal(sizes).alias("relative"))
        .group_by(*KEY, "cause")
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            *which,
            pl.col("relative").median().alias("median_rel"),
            pl.col("ts").min().alias("first_ts"),
            pl.col("ts").max().alias("last_ts"),
            pl.col("evidence").first(),
            pl.col("remedy").first(),
            (pl.col("volume_b") / pl.col("volume_a"))
            .filter(pl.col("volume_differs") & (pl.col("volume_a") > 0))
            .median()
            .alias("times"),
        )
    )
    amount = pl.format("volume of B is {} times that of A in the median", pl.col("times").round_sig_figs(4))
    evidence = pl.concat_str(
        "evidence", pl.when(~pl.col("cause").is_in(["scale", "zone"])).then(amount), separator="; ", ignore_nulls=True
    )
    named = pl.concat_str(COMPARED, separator=", ", ignore_nulls=True)
    columns = pl.when(named != "").then(named)
    return counted.select(
        *KEY,
        "cause",
        "rows",
        columns.alias("columns"),
        "median_rel",
        "first_ts",
        "last_ts",
        evidence.alias("evidence"),
        "remedy",
    ).sort(*KEY, -pl.col("rows"), "cause")


def difference_table(different: pl.DataFrame, limit: int | None) -> pl.DataFrame:
    """One row per differing value (lone bar: one row), by series and ts; `limit` bars, the first of each cause first."""
    # The first of each series and cause come before the second of any.
    number = pl.int_range(pl.len()).over(*KEY, "cause")
    shown = different if limit is None else different.sort(number, maintain_order=True).head(limit)
    cells = [
        shown.filter(f"{name}_differs").select(
            *AT,
            "session",
            "cause",
            "side",
            pl.lit(name).alias("column"),
            pl.col(f"{name}_a").alias("a"),
            pl.col(f"{name}_b").alias("b"),
        )
        for name in COMPARED
    ]
    alone = shown.filter(pl.col("side") != "both").select(
        *AT,
        "session",
        "cause",
        "side",
        pl.lit(None, pl.String).alias("column"),
        pl.lit(None, pl.Float64).alias("a"),
        pl.lit(None, pl.Float64).alias("b"),
    )
    a, b = pl.col("a"), pl.col("b")
    every = pl.concat([alone, *cells]).with_columns(
        (b - a).alias("difference"), relative_difference(a, b).alias("relative")
    )
    return every.select(*DIFFERENCES).sort(*AT, pl.col("column").cast(pl.Enum(COMPARED)))


def relative_difference(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Return (b - a) / max(|a|, |b|), signed; null where both are 0."""
    size = pl.max_horizontal(a.abs(), b.abs())
    return pl.when(size > 0).then((b - a) / size)
