"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, settings, coherence, experiment, identity, tokens, prepare,
plan, batch, model, optimizer, engine, joint_step, evaluate, checkpoint, journal, loop, tracking,
charts, launch, predict, served, export, report, check, doctor, cli, submit.
"""
