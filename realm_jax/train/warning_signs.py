"""What the metrics of a run show of a retriever or a reader gone wrong."""

import numpy as np

# By kind of warning, the metric it is judged by and how many records with that
# metric must look so in a row: one batch may by chance.
JUDGED = {
  'spread': ('retrieval_spread', 5),
  'uniform': ('retrieval_entropy', 5),
  'one document': ('retrieval_entropy', 5),
  'null document': ('null_mass', 5),
  # Nothing reads at first.
  'no utility': ('document_utility_p90', 50),
  # Measured every few hundred steps.
  'unread': ('held_out_reading', 3),
}
# Nats a span: between the documents that help most and least.
_NO_UTILITY = 0.05
# Of the loss.
_NO_READING = 0.005


def warnings_of(
  record: dict[str, float], num_candidates: int
) -> list[tuple[str, str]]:
  """Says in words when a retriever seems to collapse, or a reader not to read.

  Args:
    record: metrics of one step, or of what was measured between steps; those
      that are missing are not judged.
    num_candidates: with the null document. Below 2 nothing is retrieved and
      nothing is judged.

  Returns:
    (kind, message) of each; kinds are those of JUDGED, whatever the figures.
  """
  if num_candidates < 2:
    return []
  warnings = [
    ('spread', _collapse(record)),
    *_of_entropy(record, num_candidates),
    ('null document', _null_document(record)),
    ('no utility', _no_utility(record)),
    ('unread', _unread(record)),
  ]
  return [(kind, message) for kind, message in warnings if message]


def _collapse(record: dict[str, float]) -> str:
  if record.get('retrieval_spread', 1.0) >= 0.1:
    return ''
  return (
    'The retriever may be collapsing: nearly the same documents are found '
    f'for all queries of a batch (only {record["distinct_blocks"]:.0%} of '
    'those found differ). Lower the learning rate.'
  )


def _of_entropy(
  record: dict[str, float], num_candidates: int
) -> list[tuple[str, str]]:
  entropy = record.get('retrieval_entropy')
  if entropy is None or num_candidates == 2:
    return []
  if entropy > 0.98 * np.log(num_candidates):
    message = (
      f'p(z given x) is nearly uniform (entropy {entropy:.2f} of at most '
      f'{np.log(num_candidates):.2f} nats): the documents do not seem to help '
      'yet.'
    )
    return [('uniform', message)]
  if entropy < 0.01:
    message = (
      f'p(z given x) is nearly one document (entropy {entropy:.3f} nats): the '
      'retriever no longer explores.'
    )
    return [('one document', message)]
  return []


def _null_document(record: dict[str, float]) -> str:
  null_mass = record.get('null_mass', 0.0)
  if null_mass <= 0.9:
    return ''
  return (
    f'The null document has {null_mass:.0%} of p(z given x): the reader hardly '
    'uses retrieved documents.'
  )


# A reader without a trained masked-LM head does this: experiments/realtext.
_READ_FIRST = (
  'What reaches the retriever then is noise, which ruins it. Start from a '
  'reader that can fill blanks (import a BERT with its masked-LM head, or ict '
  'with IctConfig.reader_batch_size), or set PretrainConfig.train_retriever to '
  'False until held_out_reading is above 0.'
)


def _no_utility(record: dict[str, float]) -> str:
  low, high = (
    record.get(f'document_utility_p{share}', 1.0 * share) for share in (10, 90)
  )
  if max(abs(low), abs(high)) >= _NO_UTILITY:
    return ''
  return (
    'The reader seems to ignore the documents: given any of them, a blank is '
    f'as likely as given none (utility {low:.3f} to {high:.3f} nats). '
    f'{_READ_FIRST}'
  )


def _unread(record: dict[str, float]) -> str:
  reading = record.get('held_out_reading', 1.0)
  if reading >= _NO_READING:
    return ''
  return (
    'The reader seems to ignore the documents: given those of another query it '
    f'fills blanks as well (held-out loss {record["held_out_loss"]:.3f}, '
    f'shuffled {record["held_out_shuffled_loss"]:.3f} nats). {_READ_FIRST}'
  )
