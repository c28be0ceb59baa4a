"""MANY runs from one question, and what they say. A file imports only files above it in this order:

points, fewer, screening, designs, laws, surrogate, statistics, study, sealed, trial, nested,
tuning, trials, proposals, searching, agenda, population, price, lineages, evidence, contrasts,
effects, searched, answers, findings, themed, charts, mixture_charts, tables, page, summary,
tracking, driver, confirm, asking.
"""
