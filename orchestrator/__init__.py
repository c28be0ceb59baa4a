"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, sections, presets, penalties, settings, staging, encoding,
coherence, experiment, points, fewer, screening, designs, identity, tokens, tokenise, prepare, plan,
stages, batch, stacking, folds, features, weighting, model, optimizer, fragments, engine,
joint_step, famo, aggregation, balance, evaluate, checkpoint, weights, starts, journal, readings,
work, dealer, training, keeping, loop, recorder, summary, store, tracking, laws, surrogate,
statistics, charts, access, cluster, launch, run, predict, scored, records, served, export, report,
check, study, sealed, trial, nested, tuning, trials, proposals, searching, agenda, population,
price, lineages, evidence, contrasts, effects, searched, answers, findings, themed, study_charts,
mixture_charts, study_tables, study_page, registry, study_summary, study_tracking, studies, confirm,
doctor, view, verb, asking, cli, submit.
"""
