"""File names of the checkpoints of a handler."""

from __future__ import annotations

from dataclasses import dataclass

from glowplug_model_checkpoint import filenames

__all__ = ["Naming"]

_WITH_EPOCH_STEP_AND_SCORE = "{name}_epoch={epoch}_step={global_step}_{score_name}={score}.{ext}"


@dataclass(frozen=True)
class Naming:
    """How a handler names its files.

    Args:
        filename_prefix: First part of each name; may be empty.
        pattern: Pattern of the names; ``None`` for the default pattern.
        score_name: Name of the score; ``None`` if the score has no name.
        is_mixed: Whether checkpoints are kept for their scores and for other reasons.
        ext: Extension of the files, without the dot.

    Example:
        >>> Naming("best", score_name="accuracy").filename("model", step=3, epoch=3, score=0.9)
        'best_model_3_accuracy=0.9000.pt'
        >>> Naming(score_name="accuracy", is_mixed=True).filename("model", step=60, epoch=3, score=0.9)
        'model_epoch=3_step=60_accuracy=0.9000.pt'
    """

    filename_prefix: str = ""
    pattern: str | None = None
    score_name: str | None = None
    is_mixed: bool = False
    ext: str = filenames.EXTENSION

    def __post_init__(self) -> None:
        filenames.check_part("filename_prefix", self.filename_prefix)
        if self.score_name is not None:
            filenames.check_part("score_name", self.score_name)
        if self.pattern is not None:
            filenames.check_pattern(self.pattern)

    def basename(self, name: str) -> str:
        """Return the first part of the file name, as ignite's metadata contain it."""
        return f"{self.filename_prefix}_{name}" if self.filename_prefix else name

    def filename(
        self, name: str, *, step: int | None, epoch: int | None = None, score: float | None = None
    ) -> str:
        """Return the file name of a checkpoint; the default pattern omits a step or score that is ``None``."""
        return filenames.render(
            self.pattern or self._pattern(has_step=step is not None, has_score=score is not None),
            filename_prefix=self.filename_prefix,
            name=name,
            score_name=self.score_name,
            score=score,
            global_step=step,
            epoch=epoch,
            ext=self.ext,
        )

    def fits(self, filename: str) -> bool:
        """Return whether a file name may be one of this handler."""
        patterns = (
            [self.pattern]
            if self.pattern
            else [
                self._pattern(has_step=has_step, has_score=has_score)
                for has_step, has_score in ((True, False), (True, True), (False, True))
            ]
        )
        return any(filenames.matches(each, filename, self.filename_prefix, self.ext) for each in patterns)

    def _pattern(self, *, has_step: bool, has_score: bool) -> str:
        has_prefix = bool(self.filename_prefix)
        if self.is_mixed and has_step and has_score:
            return "{filename_prefix}_" * has_prefix + _WITH_EPOCH_STEP_AND_SCORE
        return filenames.setup_filename_pattern(
            with_prefix=has_prefix,
            with_score=has_score,
            with_score_name=has_score and self.score_name is not None,
            with_global_step=has_step or not has_score,
        )
