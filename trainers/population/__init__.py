"""Populations: runs that differ in seeds and numbers, trained together by one program."""

from gan.trainers.population.folder import train_population as train_population
from gan.trainers.population.members import train_members as train_members
