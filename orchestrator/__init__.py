"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, sections, presets, penalties, settings, staging, encoding,
coherence, experiment, points, identity, tokens, tokenise, prepare, plan, stages, batch, stacking,
folds, features, weighting, model, optimizer, fragments, engine, joint_step, famo, aggregation,
balance, evaluate, checkpoint, weights, starts, journal, readings, work, dealer, training, keeping,
loop, recorder, summary, store, tracking, laws, surrogate, statistics, charts, access, cluster,
launch, run, predict, records, served, export, report, check, doctor, view, verb, cli, submit.
"""
