"""The almanac: an encyclopedia of an invented world, and questions about it."""

from realm_jax.almanac.documents import documents
from realm_jax.almanac.questions import questions
from realm_jax.almanac.world import make_world
from realm_jax.almanac.writing import write_almanac

__all__ = ['documents', 'make_world', 'questions', 'write_almanac']
