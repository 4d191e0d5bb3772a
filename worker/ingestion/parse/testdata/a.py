#!/usr/bin/env python3
"""Module doc."""
import os, sys as system
from . import sib
from .pkg.mod import (one,
                      two as deux)
from x import *

LIMIT = 10

# A comment
@decorator(1)
@other
class Foo(Base, metaclass=Meta):
    """Foo doc."""
    attr = 1

    def method(self, a: int) -> str:
        '''Doc of method.'''
        return helper(self.other(a))  # FIXME now

    @property
    async def p(self):
        def inner(): pass
        return inner()

def top(*args):
    for i in range(3):
        print(i)
