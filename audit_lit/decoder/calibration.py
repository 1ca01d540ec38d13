"""What was measured of one decoder on one target: its threshold, its scales, its false alarms and its safety card."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, model_validator

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.wire_format import Count, Index, Number, Text
from audit_lit.errors import CalibrationError
from audit_lit.hooks import same_model
from audit_lit.settings import explain
from audit_lit.statistics.intervals import wilson_interval

Share = Annotated[Number, Field(ge=0, le=1)]


def highest(*thresholds: float | None) -> float | None:
    """Return the threshold that counts of those that are known: the highest; None if there is none.

    One may come with the decoder, one may be measured on the target, and one may be stated by a recipe. A rate of false
    alarms holds at the threshold that it was measured at. What passes the highest passes each of the others as well, so
    none of these rates is exceeded because another threshold is in use.
    """
    return max((threshold for threshold in thresholds if threshold is not None), default=None)


def origin(threshold: float | None, record: CalibrationRecord | None, min_lift: float | None = None) -> str:
    """Return in words where the threshold that counts is from.

    Args:
        threshold: The threshold.
        record: The calibration of decoder and target, if there is one.
        min_lift: What a recipe states, or whoever runs it.
    """
    if threshold is None:
        return "not measured"
    if record and record.lift_threshold == threshold:
        source = f"measured on {record.target} by 'audit-lit calibrate', {record.date}"
    else:
        source = "min_lift of the recipe or of --set" if threshold == min_lift else "it comes with the decoder"
    others = {"the calibration's": record.lift_threshold if record else None, "min_lift": min_lift}
    lower = [f"{name} {value:.2f}" for name, value in others.items() if value is not None and value < threshold]
    return f"{source}; the highest counts, and lower are: {', '.join(lower)}" if lower else source


class Rate(BaseModel):
    """How many of ``n`` things were of a kind, and the 95% Wilson interval of their share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Index
    n: Index
    interval: tuple[Share, Share]

    @classmethod
    def of(cls, count: int, n: int) -> Rate:
        """Return the rate of ``count`` in ``n``."""
        return cls(count=count, n=n, interval=wilson_interval(count, n))

    @model_validator(mode="after")
    def _is_a_share(self) -> Rate:
        if self.count > self.n or self.interval[0] > self.interval[1]:
            raise ValueError(f"count={self.count} must be at most n={self.n}, and the interval's ends in order")
        return self

    @property
    def share(self) -> float | None:
        """The share; None of nothing."""
        return self.count / self.n if self.n else None

    def __str__(self) -> str:
        """Return the share with its interval and n."""
        if not self.n:
            return "none to count"
        low, high = self.interval
        return f"{self.count / self.n:.1%} (95% interval {low:.1%} to {high:.1%}, n={self.n})"


class Claims(BaseModel):
    """The scales of claims, fitted on planted prompts, and how good claims are by the scales of the other prompts.

    Attributes:
        claim_scale: See ``decoder.config.Calibration``.
        choice_scale: See there.
        auroc: Probability that a right claim has more evidence than a wrong one, and its 95% interval.
        auroc_interval: See ``auroc``.
        ece: Calibration error of the probabilities, cross-fitted by prompt.
        n: Number of claims, half of them right.
        n_prompts: Number of planted prompts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    claim_scale: tuple[Number, Number]
    choice_scale: Number
    auroc: Share
    auroc_interval: tuple[Share, Share]
    ece: Share
    n: Count
    n_prompts: Count


class Safety(BaseModel):
    """How many harmless requests that models tend to refuse are answered, nothing injected, by a count of keywords.

    Attributes:
        base: Requests that the decoder's base answers.
        decoder: Requests that the decoder answers.
        despite_base: Of the requests that the base refuses, those that the decoder answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Rate
    decoder: Rate
    despite_base: Rate


class CalibrationRecord(BaseModel):
    """A calibration; it holds for one decoder in one format, and for copies of one target.

    Attributes:
        decoder: Name of the decoder.
        decoder_key: Hash of its weights and of its wire format (see ``calibration_files.decoder_key``).
        target: Name of the model that it was measured on.
        target_fingerprint: ``Target.fingerprint()`` of that model.
        read_layers: The layers that were read.
        date: Day of the measurement, as ``2026-01-31``.
        version: Version of audit-lit that measured.
        seed: Seed of the measurement.
        n_dialogs: Number of neutral dialogs.
        lift_threshold: See ``decoder.config.Calibration``; measured on half of the dialogs.
        threshold_n: Number of answers about nothing that the threshold was measured on.
        about_nothing: Answers about nothing that pass for supported, in the other half of the dialogs.
        about_neutral: Answers about dialogs that hide nothing that pass for supported and name something, in that half.
        claims: Scales of claims; None if not measured.
        safety: Requests that are answered with nothing injected; None if not measured.
        replaces: Whether it counts in place of values that the decoder's own configuration has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoder: Text
    decoder_key: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{32}$")]
    target: Text
    target_fingerprint: Text
    read_layers: Annotated[tuple[Index, ...], Field(min_length=1)]
    date: Annotated[StrictStr, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    version: Text
    seed: Index
    n_dialogs: Count
    lift_threshold: Annotated[Number, Field(ge=0)]
    threshold_n: Count
    about_nothing: Rate
    about_neutral: Rate
    claims: Claims | None = None
    safety: Safety | None = None
    replaces: StrictBool = False

    def __init__(self, /, **fields: object) -> None:
        """Check the fields; raise ``CalibrationError`` for an unknown, missing or wrong one."""
        try:
            super().__init__(**fields)
        except ValueError as err:
            problems = explain(err, CalibrationRecord, Claims, Safety, Rate)
            raise CalibrationError(f"malformed calibration ({problems}). Measure it again.") from err

    def fits(self, decoder_key: str, target_fingerprint: str) -> bool:
        """Return whether it was measured with this decoder, on this target or a copy of it."""
        return decoder_key == self.decoder_key and same_model(self.target_fingerprint, target_fingerprint)

    def put_into(self, config: DecoderConfig) -> DecoderConfig:
        """Return a configuration with these values where it has none, or everywhere if the calibration replaces.

        Of two thresholds the higher counts (see ``highest``), unless the calibration replaces the other.
        """
        comes_with = None if self.replaces else config.lift_threshold
        values: dict[str, object] = {}
        if self.claims:
            values |= {"claim_scale": self.claims.claim_scale, "choice_scale": self.claims.choice_scale}
        kept = {} if self.replaces else config.to_dict()
        new = {name: value for name, value in values.items() if kept.get(name) is None}
        return config.changed(lift_threshold=highest(self.lift_threshold, comes_with), **new)

    @property
    def unfinished(self) -> str:
        """What was not measured, in words: an interrupted calibration counts by its finished parts."""
        parts = {"scales of claims": self.claims, "safety card": self.safety}
        lacking = " and ".join(f"no {name}" for name, value in parts.items() if value is None)
        return f"unfinished: {lacking} ('audit-lit calibrate' goes on)" if lacking else ""

    @property
    def summary(self) -> str:
        """One line for a person: what was measured, on what and when, and what was not."""
        return (
            f"threshold {self.lift_threshold:.2f} nats per token on {self.target}, measured {self.date} on "
            f"{self.threshold_n} answers about nothing; of others, {self.about_nothing} pass for supported"
            f"{self.unfinished and f'; {self.unfinished}'}"
        )
