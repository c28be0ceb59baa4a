"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, sections, presets, penalties, settings, staging, encoding,
coherence, experiment, identity, tokens, tokenise, prepare, plan, stages, batch, stacking, folds,
features, weighting, model, optimizer, fragments, engine, joint_step, famo, aggregation, balance,
evaluate, checkpoint, weights, starts, journal, readings, work, dealer, training, keeping, loop,
recorder, summary, store, tracking, charts, access, cluster, launch, run, predict, scored, records,
served, export, report, check, registry, doctor, view, verb, studies, cli, submit.
"""
