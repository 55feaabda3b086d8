"""Populations: runs that differ in seeds and numbers, trained together."""

from gan.trainers.population.members import train_members as train_members
