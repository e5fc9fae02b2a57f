"""A source in one file: CSV files, one an hour, in a folder."""

from onetouch.sources.delimited import Delimited
from onetouch.sources.folder import DatedFiles
from onetouch.sources.protocol import Source
from onetouch.sources.shape import EPOCH_SECONDS, Shape, TimeFormat

SOURCE = Source(
    name="toy_csv",
    fetch=DatedFiles("toy_csv", "clicks_%Y-%m-%dT%H.csv"),
    format=Delimited(nested=frozenset({"more"})),
    shape=Shape(
        event_id=("id",),
        event=("what",),
        occurred_at=("at",),
        received_at=("received",),
        user_id=("who",),
        groups=("more.company",),
        properties=("more.details",),
        times=(TimeFormat(EPOCH_SECONDS),),
    ),
)
