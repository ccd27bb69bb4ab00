"""Which sketch and which change of variables suit a source, by its size alone."""

from torchlinreg.engine.data.source import MemorySource

EXACT_ELEMENTS = 2**19  # rows with no more features may be copied to float64 and be their own sketch,
EXACT_OPERATIONS = 2**28  # if factorising them takes no more than this many multiplications
SHORT_ELEMENTS = 2**27  # the same where there are few rows for the columns
SHORT_OPERATIONS = 2**38
WHITEN_FEATURES = 4096  # beyond, a factorisation costs more than the passes that it saves
SKETCH_ROWS = 2**15  # rows of a sketch at most, and
SKETCH_OPERATIONS = 2**29  # multiplications that factorising it may take,
SKETCH_ROWS_PER_FEATURE = 8  # unless it needs more to say anything
SAMPLE_ROWS = 2**12


def is_exact(source: MemorySource) -> bool:
    """Whether all rows are to be their own sketch: where that is fast, or where they are too few for another."""
    n_rows, n_features = source.shape
    if source.is_sparse and n_features > WHITEN_FEATURES:
        return True  # of which products only are asked
    size = n_rows * n_features
    operations = size * min(n_rows, n_features)
    if n_rows > 2 * SKETCH_ROWS_PER_FEATURE * n_features:
        return size <= EXACT_ELEMENTS and operations <= EXACT_OPERATIONS
    return n_rows == 1 or (size <= SHORT_ELEMENTS and operations <= SHORT_OPERATIONS)


def sketch_rows(n_rows: int, n_features: int) -> int:
    """Rows of a sketch."""
    affordable = min(SKETCH_ROWS, SKETCH_OPERATIONS // n_features**2)
    wanted = SKETCH_ROWS_PER_FEATURE * n_features if n_features <= WHITEN_FEATURES else SAMPLE_ROWS
    return min(n_rows // 2, max(wanted, affordable))


def can_be_dense(source: MemorySource) -> bool:
    """Whether rows may be given their zeros, some at a time: not those of sparse sources with very many columns."""
    return not source.is_sparse or source.shape[1] <= WHITEN_FEATURES


def choose_conditioning(conditioning: str | None, source: MemorySource, *, minimum_norm: bool) -> str | None:
    """Return what "auto" stands for: "whiten" unless factorising a sketch would cost more than it saves.

    Parameters
    ----------
    conditioning : {"auto", "whiten", "scale", None}
    source : MemorySource
    minimum_norm : bool
        Whether to find the smallest of many answers: descent from zero does, if columns stay at their own scales.
    """
    n_rows, n_features = source.shape
    if conditioning != "auto":
        return conditioning
    if n_features <= WHITEN_FEATURES or (is_exact(source) and not source.is_sparse):
        return "whiten"
    return None if minimum_norm and source.is_sparse and n_rows <= n_features else "scale"
